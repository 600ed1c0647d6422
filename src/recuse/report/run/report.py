"""The report of one run or of several: read their folders, compute, arrange, write."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from recuse.analysis.advice import Advice
from recuse.analysis.composing import advise_each, compose_all, uncomposed
from recuse.analysis.compositions import Composition
from recuse.analysis.held_out import held_out
from recuse.analysis.measured import (
    CERTIFIED,
    ROBUST,
    Measured,
    gathered,
    in_order,
    measure_all,
    strongest,
    verdicts_of,
)
from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError
from recuse.records.run_folder import RunFolder, read_run
from recuse.report.charts.curves import certified_accuracy, training_curves
from recuse.report.charts.decision_regions import decision_regions
from recuse.report.charts.plots import (
    natural_against_robust,
    robust_against_inaccuracy,
    selective_accuracy,
    split_bars,
)
from recuse.report.page.blocks import Block, Figure, Page, Section, Text
from recuse.report.page.figures import FORMATS, save_figures
from recuse.report.page.html import write_html
from recuse.report.page.table_files import save_tables
from recuse.report.run.composition_tables import accounting_table, composition_table
from recuse.report.run.gallery import gallery
from recuse.report.run.held_out import held_out_table
from recuse.report.run.model_figures import (
    certified_curves,
    composition_marks,
    inaccuracy_marks,
    selective_marks,
    split_bars_of,
)
from recuse.report.run.origin import origin
from recuse.report.run.summary import caveats, headline, summarise
from recuse.report.run.tables import (
    certified_table,
    model_table,
    repetition_table,
    split_table,
)


def write_report(
    runs: Sequence[Path], out: Path, *, figures: Path | None = None, tables: Path | None = None
) -> Path:
    """Write the report of run folders as one offline HTML file.

    Args:
        runs: Run folders; what they hold besides records is used where it is there.
        out: The HTML file.
        figures: Folder for every figure as SVG, PNG and PDF; none are written if absent.
        tables: Folder for every table as CSV and LaTeX; none are written if absent.

    Returns:
        ``out``.

    Raises:
        RecordError: A run without records, a damaged file, or a place that cannot be written.
    """
    page = build_report(runs)
    if figures is not None:
        save_figures(page, figures, FORMATS)
    if tables is not None:
        save_tables(page, tables)
    return write_html(page, out)


def build_report(runs: Sequence[Path]) -> Page:
    """The report of run folders as a page.

    Raises:
        RecordError: No run, a run without records, or a damaged file.
    """
    if not runs:
        raise RecordError("no run to report on; give at least one run folder")
    folders = [read_run(path, name) for path, name in zip(runs, _names(runs), strict=True)]
    records = in_order(
        model for folder in folders for model in verdicts_of(folder.name, folder.records)
    )
    attacks = [record for folder in folders for record in folder.attacks]
    models = gathered(records, attacks)
    wanted = frozenset(eps for folder in folders for eps in folder.eps)
    rates = measure_all(models, wanted)
    attacked = {
        (folder.name, *key): value for folder in folders for key, value in folder.attacked.items()
    }
    compositions = compose_all(models, wanted, attacked, attacks=attacks)
    advice = advise_each(compositions)
    proven = compose_all(models, wanted, kind=CERTIFIED)
    leading = advice or advise_each(proven)
    decisive = strongest(rates)
    sections = (
        _compositions(decisive, compositions, advice, uncomposed(models)),
        _models(rates, models),
        _planes(folders),
        _certificates(rates, models, proven),
        _training(folders),
        _pictures(folders),
        origin(folders, records),
    )
    return Page(
        title=_title(folders),
        summary=summarise(decisive, leading),
        sections=tuple(section for section in sections if section.blocks),
        subtitle=_subtitle(models),
        tiles=headline(leading, decisive),
        footer=f"Written by recuse on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} from records "
        "alone; no network was run for this page.",
    )


def _compositions(
    rates: Sequence[Measured],
    compositions: Sequence[Composition],
    advice: Sequence[Advice],
    lacking: str,
) -> Section:
    notes = caveats(rates, advice)
    blocks: list[Block] = [Text(notes, "note")] if notes else []
    if not compositions:
        blocks += [Text((f"{lacking[0].upper()}{lacking[1:]}.",), "note")] if lacking else []
        return Section("What the numbers say and do not say", tuple(blocks))
    blocks += [
        composition_table(compositions, advice),
        Figure(
            "natural_against_robust",
            "Natural and robust accuracy, alone and composed",
            natural_against_robust(composition_marks(rates, compositions)),
            "Up and to the right is better. Filled circles are the deployed systems, counted "
            "soundly; a line leads to the same system by the paper's count. The dashed line is "
            "the core where it is too far below to be drawn.",
        ),
    ]
    searches = held_out(compositions)
    blocks += [held_out_table(searches)] if searches else []
    blocks.append(accounting_table(compositions))
    return Section(
        "What composition gains",
        tuple(blocks),
        "A robust model answers where it is stable, an accurate core answers everywhere else.",
    )


def _models(rates: Sequence[Measured], models: Sequence[Verdicts]) -> Section:
    attacked = [m for m in rates if m.kind == ROBUST]
    blocks: list[Block] = [model_table(attacked)] if attacked else []
    decisive = strongest(rates)
    if any(m.splits for m in rates):
        blocks += [
            Figure(
                "four_splits",
                "The four splits of every model",
                split_bars(split_bars_of(decisive)),
                "Robust: no perturbation within ε changes the answer. The red part at the end is "
                "the dangerous one: robustly inaccurate, which no robustness check can catch.",
            ),
            split_table(rates),
        ]
    repeated = repetition_table(rates)
    blocks += [repeated] if repeated.rows else []
    inaccuracy = inaccuracy_marks(decisive)
    if inaccuracy:
        blocks.append(
            Figure(
                "robust_against_inaccuracy",
                "Robust accuracy against robust inaccuracy",
                robust_against_inaccuracy(inaccuracy),
                "Up and to the left is better. A line joins models that differ in β alone; thin "
                "lines are 95 % intervals.",
            )
        )
    selective = selective_marks(decisive, models)
    if selective:
        blocks.append(
            Figure(
                "selective_accuracy",
                "How right a model is where it answers robustly",
                selective_accuracy(selective),
                "Up and to the right is better. RI: robustness indicator; SR: softmax response "
                "over its thresholds τ; SN: selection network.",
            )
        )
    return Section("Every model", tuple(blocks), "Each model alone, before any composition.")


def _planes(folders: Sequence[RunFolder]) -> Section:
    blocks = tuple(
        Figure(
            f"decision_regions_{number}" if number else "decision_regions",
            f"Decision regions, {folder.name}",
            decision_regions(folder.regions),
            "Background: the predicted class. Triangles: points whose answer a perturbation "
            "within ε changes. Crosses: robust and wrong.",
        )
        for number, folder in enumerate(f for f in folders if f.regions is not None)
        if folder.regions is not None
    )
    return Section("Decision regions", blocks, "How each loss divides the plane.")


def _certificates(
    rates: Sequence[Measured], models: Sequence[Verdicts], compositions: Sequence[Composition]
) -> Section:
    proven = [m for m in rates if m.kind == CERTIFIED]
    blocks: list[Block] = [certified_table(proven)] if proven else []
    if compositions:
        blocks.append(composition_table(compositions, advise_each(compositions)))
    curves = certified_curves(models)
    if curves:
        figure = Figure(
            "certified_accuracy",
            "Certified accuracy over the radius",
            certified_accuracy(curves),
            "Share of the samples that are right and proven stable up to the radius.",
        )
        blocks.append(figure)
    return Section("Certificates", tuple(blocks), "What is proven, whatever the attack.")


def _training(folders: Sequence[RunFolder]) -> Section:
    blocks: list[Block] = []
    for number, folder in enumerate(folders):
        names = [m.meta.model for m in in_order(verdicts_of(folder.name, folder.records))]
        order = dict.fromkeys([*(n for n in names if n in folder.training), *folder.training])
        chart = training_curves({name: folder.training[name] for name in order})
        if chart is not None:
            name = f"training_{number}" if number else "training"
            title = f"Validation rates during training, {folder.name}"
            blocks.append(Figure(name, title, chart, "Judged by the training attack."))
    return Section("Training", tuple(blocks))


def _pictures(folders: Sequence[RunFolder]) -> Section:
    blocks = tuple(
        gallery(folder.gallery, title="" if len(folders) == 1 else folder.name)
        for folder in folders
        if folder.gallery is not None and folder.gallery.height
    )
    return Section("Inputs that were abstained on", blocks)


def _names(runs: Sequence[Path]) -> list[str]:
    """Folder names, with as much of the path as tells two of the same name apart."""
    last = [path.resolve().name for path in runs]
    return [
        name if last.count(name) == 1 else "/".join(path.resolve().parts[-2:])
        for name, path in zip(last, runs, strict=True)
    ]


def _title(folders: Sequence[RunFolder]) -> str:
    return "Report on " + ", ".join(folder.name for folder in folders)


def _subtitle(models: Sequence[Verdicts]) -> str:
    data = dict.fromkeys(m.meta.dataset for m in models)
    threats = dict.fromkeys(m.meta.norm for m in models if m.radii(ROBUST))
    samples = sorted({m.samples for m in models})
    count = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
    names = len({(m.run, m.meta.model) for m in models})
    return " · ".join([", ".join(data), f"{count} samples", f"{names} models", *threats])
