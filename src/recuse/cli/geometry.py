"""``recuse geometry``: how far classes are apart, how smooth a classifier is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from torch import nn

    from recuse.data import Split, Splits
    from recuse.geometry import Lipschitz, Separation
    from recuse.radius import Norm
    from recuse.threat import Threat


def separation(
    data: Annotated[Positional[str], arg(metavar="DATA")],
    /,
    norm: Literal["linf", "l2"] = "linf",
    out: Path = Path("runs/separation"),
    eps: tuple[str, ...] = ("2/255", "8/255"),
    limit: int | None = None,
    pairs: int = 12,
    workers: int | None = None,
    data_root: Path | None = None,
) -> None:
    """Measure exactly how far differently labelled images are apart, and what radius that permits.

    Every image is compared with every training image of another class: once the training images
    themselves (train-train), once the test images (test-train). The folder receives
    separation.json, a histogram and the nearest pairs as a picture.

    Args:
        data: A data set by name (recuse data list), a folder of images or a parquet file.
        norm: linf or l2.
        out: Folder for the figures.
        eps: Radii to hold against the distances.
        limit: Only the first so many training and test images.
        pairs: Nearest pairs to draw; 0 for no picture.
        workers: Threads; default one per processor.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
    """
    from recuse.cli import datasets
    from recuse.data import find_data_root
    from recuse.radius import parse_radius

    radii = {text: parse_radius(text) for text in eps}
    splits = datasets.parts_of(data, find_data_root(data_root))
    study(splits, norm, out, radii, limit=limit, pairs=pairs, workers=workers)


def study(
    splits: "Splits",
    norm: "Norm",
    out: Path,
    radii: dict[str, float],
    *,
    limit: int | None = None,
    pairs: int = 12,
    workers: int | None = None,
) -> None:
    """Measure train-train and test-train separation; write JSON, histogram and nearest pairs."""
    from rich.console import Console

    from recuse.data.split import join
    from recuse.geometry.separation import bin_edges
    from recuse.records.store import write_atomically
    from recuse.report.charts.separation import separation_histogram
    from recuse.report.page.blocks import Figure
    from recuse.report.page.figures import save_figure

    # Held-out rows are training images as well: distances do not care about the cut.
    train = join(splits.train, splits.validation, name=splits.train.name)
    train, test = _first(train, limit), _first(splits.test, limit)
    parts = {"train-train": train, "test-train": test}
    measured = {kind: _measured(part, train, norm, workers) for kind, part in parts.items()}
    edges = bin_edges(norm, max(float(found.distance.max()) for found, _ in measured.values()))
    results: dict[str, Any] = {"data": train.name.partition("/")[0], "references": len(train)}
    for kind, (found, seconds) in measured.items():
        held = {text: found.within(value) for text, value in radii.items()}
        summary = found.summary(train.label_names, edges)
        results[kind] = summary | {"share_within_2eps": held, "seconds": seconds}
        _draw_pairs(out / f"nearest-{kind}-{norm}.png", found, parts[kind], train, pairs)
        Console(soft_wrap=True, highlight=False).print(_sentence(kind, found, held))
    write_atomically(out / f"separation-{norm}.json", json.dumps(results, indent=1).encode())
    title = "How far differently labelled images are apart"
    chart = separation_histogram(results)
    save_figure(Figure(f"separation-{norm}", title, chart), out, ("png",))


def _first(split: "Split", limit: int | None) -> "Split":
    return split if limit is None else split.head(limit)


def _measured(
    part: "Split", train: "Split", norm: "Norm", workers: int | None
) -> tuple["Separation", float]:
    """The separation of a part from the training images, and the seconds it took."""
    import time

    from recuse.cli.console import progress_display
    from recuse.geometry import separation as measure

    started = time.monotonic()
    with progress_display() as progress:
        found = measure(
            (part.images, part.labels),
            (train.images, train.labels),
            norm=norm,
            classes=train.classes,
            workers=workers,
            progress=progress,
        )
    return found, round(time.monotonic() - started, 1)


def lipschitz(
    data: Annotated[Positional[str], arg(metavar="DATA")],
    model: Annotated[
        Positional[tuple[str, ...]], arg(metavar="MODEL", help_behavior_hint="(one or more)")
    ],
    /,
    threat: str = "linf:2/255",
    out: Path | None = None,
    output: Literal["logits", "probabilities"] = "logits",
    steps: int = 10,
    limit: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure how fast models change near training and test images, beside their accuracy gap.

    The slope is the mean over images of the largest |f(x') - f(x)|_1 / |x' - x|_p that gradient
    ascent finds in the ball.

    Args:
        data: A data set by name (recuse data list), a folder of images or a parquet file.
        model: Checkpoints, or names in the models folder (recuse models list).
        threat: Ball, for example linf:2/255.
        out: Write the numbers to this JSON file as well.
        output: Slopes of the logits or of the softmax.
        steps: Ascent steps of a fifth of the radius.
        limit: Only the first so many images of each part.
        batch_size: Images per forward pass.
        seed: Of the random starts.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.cli import datasets, options
    from recuse.data import find_data_root
    from recuse.evaluation.admission import admit
    from recuse.geometry import Lipschitz
    from recuse.records.store import write_atomically
    from recuse.threat import Threat

    root, ball = find_data_root(data_root), Threat.parse(threat)
    splits = datasets.parts_of(data, root)
    parts = {
        name: _first(split, limit)
        for name, split in {"train": splits.train, "test": splits.test}.items()
    }
    method = Lipschitz(steps=steps, output=output)
    rows: list[dict[str, Any]] = []
    for reference in model:
        loaded = options.model(reference, root)
        # Training images are what it measures on, beside new ones.
        admitted = admit(loaded.network, loaded.card, splits.test, allow_training_data=True)
        network = admitted.network.to(options.device(device))
        found = _smoothness(network, parts, ball, method, seed=seed, batch_size=batch_size)
        rows.append({"model": loaded.name, "weights": loaded.weights, **found})
    if out is not None:
        settings = {"data": data, "threat": str(ball), "output": output, "steps": steps}
        text = json.dumps({**settings, "seed": seed, "rows": rows}, indent=1)
        write_atomically(out, text.encode())
    _print_slopes(rows)


def _print_slopes(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "slope train", "slope test", "accuracy train", "accuracy test", "gap")
    table.columns[0].no_wrap = True
    for row in rows:
        parts = (row["train"], row["test"])
        shares = (*(part["accuracy"] for part in parts), row["gap"])
        table.add_row(
            row["model"],
            *(f"{part['lipschitz']:.3g}" for part in parts),
            *(f"{100 * share:.1f}" for share in shares),
        )
    Console(soft_wrap=True).print(table)


def _smoothness(
    network: "nn.Module",
    parts: dict[str, "Split"],
    threat: "Threat",
    method: "Lipschitz",
    *,
    seed: int,
    batch_size: int,
) -> dict[str, Any]:
    """Slope and accuracy per part, and the gap of the accuracies."""
    from dataclasses import asdict

    from recuse.cli.console import progress_display
    from recuse.geometry import smoothness

    found: dict[str, Any] = {}
    for name, split in parts.items():
        with progress_display() as progress:
            measured = smoothness(
                network,
                split.images,
                split.labels,
                split.ids,
                threat,
                method=method,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
            )
        found[name] = asdict(measured)
    return found | {"gap": found["train"]["accuracy"] - found["test"]["accuracy"]}


def _sentence(kind: str, found: "Separation", held: dict[str, float]) -> str:
    steps = f" ({255 * found.minimum:.4g}/255)" if found.norm == "linf" else ""
    shares = ", ".join(f"{100 * share:.2f} % within 2·{eps}" for eps, share in held.items())
    return (
        f"{kind}, {found.norm}: minimum {found.minimum:.4f}{steps}, 5 % quantile "
        f"{found.quantile(0.05):.4f}; the data permit eps {found.permitted_eps:.4f}; "
        f"nearest other class {shares}"
    )


def _draw_pairs(path: Path, found: "Separation", part: "Split", train: "Split", count: int) -> None:
    from recuse.data.sheet import contact_sheet
    from recuse.records.store import write_atomically

    images, captions = [], []
    for pair in found.nearest_pairs(count):
        for split, row in ((part, pair.query), (train, pair.reference)):
            images.append(split.images[row])
            captions.append(split.label_names[int(split.labels[row])])
        captions[-1] += f"  {pair.distance:.3f}"
    if images and images[0].dim() == 3:
        write_atomically(path, contact_sheet(images, captions, columns=6))
