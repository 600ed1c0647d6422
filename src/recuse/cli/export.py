"""``recuse export``: a system, a network or what was measured, in the forms of others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from recuse.cli.arguments import DataRoot, option_group

if TYPE_CHECKING:
    from recuse.systems import System
    from recuse.systems.results import Measured, Publication

Pixels = Literal["auto", "float", "uint8"]
Results = Literal["robustbench", "hf"]


@option_group
class Entry:
    """What results say beside numbers.

    Attributes:
        title: Of the work; by default the system's name.
        authors: As a leaderboard shall print them.
        link: Of the work.
        venue: Of the work.
        additional_data: The networks saw images beyond the data set's training part.
    """

    title: str | None = None
    authors: str | None = None
    link: str | None = None
    venue: str | None = None
    additional_data: bool = False

    def publication(self) -> "Publication":
        """As the exporter takes it."""
        from recuse.systems.results import Publication

        words = (self.title, self.authors, self.link, self.venue)
        title, authors, link, venue = (word or "" for word in words)
        return Publication(title, authors, link, venue, self.additional_data)


def export(
    what: Annotated[Positional[str], arg(metavar="SYSTEM|MODEL|RUN")],
    /,
    out: Path,
    entry: Entry,
    format: Literal["onnx"] = "onnx",
    results: Results | None = None,
    member: str | None = None,
    threat: str | None = None,
    pixels: Pixels = "auto",
    shape: Annotated[tuple[int, ...], arg(help_behavior_hint="")] = (),
    data_root: DataRoot = None,
) -> None:
    """Write a system or a network as one ONNX file, or what was measured of it.

    A network has the output logits. A system has label (-1: nobody answers), stage, selected and
    score, and answers as recuse predict does; selectors that search cannot be exported. Names of
    the classes lie in the file's metadata.

    Args:
        what: A folder that recuse build wrote, a MODEL, or for results a run folder.
        out: File to write.
        entry: For results.
        format: The kind of file, checked against the original.
        results: Instead, the measured numbers: robustbench (a model_info JSON, our bounds beside)
            or hf (a model card in Markdown with its results as metadata).
        member: Of a system, only the network of this stage or core; of a run, the model.
        threat: norm:eps whose numbers are wanted, for the results of a run.
        pixels: What a system's file takes: float (images in [0, 1] of the networks' size, channels
            first) or uint8 (decoded images of any size, channels last, resized inside as the
            system does it); auto takes uint8 where the system resizes.
        shape: Of one input, for a MODEL that does not say it, such as 3 32 32.
    """
    if results is not None:
        said = _results(what, results, entry, member, threat, out)
    elif _is_system(what):
        from recuse.systems import load

        said = _system(load(what), member, out, pixels)
    else:
        said = _model(what, member, shape, data_root, out)
    Console(soft_wrap=True, highlight=False).print(f"wrote {out}: {said}", markup=False)


def _is_system(path: str | Path) -> bool:
    from recuse.systems.folder import SYSTEM

    return (Path(path) / SYSTEM).exists()


def _results(
    what: str, kind: Results, entry: Entry, member: str | None, threat: str | None, out: Path
) -> str:
    """Write what was measured; the numbers in words."""
    import json

    from recuse.records.store import write_atomically
    from recuse.systems import load
    from recuse.systems.folder import page
    from recuse.systems.results import measured_of, model_card, model_info, page_of

    folder = Path(what)
    if _is_system(folder):
        found, text = measured_of(load(folder)), page(folder)
    else:
        found = _recorded(folder, member, threat)
        text = page_of(found)
    if kind == "hf":
        written = model_card(found, text)
    else:
        info = model_info(found, entry.publication())
        written = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
    write_atomically(out, written.encode())
    sound = "no sound bound" if found.sound is None else f"sound {100 * found.sound[0]:.1f}"
    return (
        f"{found.name} on {found.rows} images of {found.data}: natural "
        f"{100 * found.natural[0]:.1f}, robust within {found.budget}: {sound}, attacked "
        f"{100 * found.attacked[0]:.1f}"
    )


def _recorded(run: Path, member: str | None, threat: str | None) -> "Measured":
    """What a run folder's records say of one model."""
    from recuse.analysis.networks import gather
    from recuse.analysis.verdicts import verdicts
    from recuse.errors import ConfigError
    from recuse.records.run_folder import attack_records
    from recuse.records.store import read_records
    from recuse.systems.results import measured_in
    from recuse.threat import Threat

    known = gather([verdicts(record) for record in read_records(run)], attack_records(run))
    judged = {v.meta.model: v for v in known if v.radii()}
    if member not in judged or threat is None:
        raise ConfigError(
            "name the model and the radius whose results are wanted (--member, --threat "
            f"norm:eps); {run} judged {', '.join(judged) or 'none'}"
        )
    return measured_in(judged[member], Threat.parse(threat))


def _system(system: "System", member: str | None, out: Path, pixels: Pixels) -> str:
    """Export a system or a member of it; what was written, in words."""
    from recuse.errors import ConfigError
    from recuse.integrations.onnx import export_onnx
    from recuse.systems.onnx import export_system

    if member is None:
        return f"takes {export_system(system, out, pixels=pixels)}"
    found = {m.name: m.model for m in system.cascade.members}
    if member not in found:
        raise ConfigError(f"the system has no member {member!r}; it has {', '.join(found)}")
    shape = system.form.shape
    error = export_onnx(found[member], shape, out, labels=system.labels)
    return _differs(error)


def _model(
    ref: str, member: str | None, shape: tuple[int, ...], data_root: Path | None, out: Path
) -> str:
    from recuse.cli import options
    from recuse.errors import ConfigError
    from recuse.integrations.onnx import export_onnx

    if member is not None:
        raise ConfigError(f"{ref!r} is no system, so it has no member {member!r}")
    loaded = options.model(ref, data_root)
    if not (shape or loaded.card):
        raise ConfigError(
            f"{ref!r} does not say what it takes; give the shape of one input, for example "
            "--shape 3 32 32"
        )
    card = loaded.card
    wanted = shape or (card.preprocessing.shape if card else ())
    labels = card.label_names if card else ()
    about = {"model": loaded.name, "sha256": loaded.weights}
    return _differs(export_onnx(loaded.network, wanted, out, labels=labels, about=about))


def _differs(error: float) -> str:
    return f"logits differ by at most {error:.1e}"
