"""The page of the geometry study: how far the classes are apart, and how smooth networks are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recuse.errors import RecordError
from recuse.records.layout import PAGE, SEPARATIONS, SLOPES
from recuse.records.run_folder import read_mapping
from recuse.records.store import write_atomically
from recuse.report.charts.separation import KINDS, separation_histogram
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure
from recuse.report.study.markdown import data_name, table

INTRODUCTION = """# How far the classes of {data} are apart, and how smooth networks are

`recuse report` makes this page and its figures from the JSON files beside it; `recuse run
geometry` measures them anew.

**Proof.** Distances are exact, between every image and every training image of another class, in
pixel units of [0, 1]; a slope is the largest that a search found, a lower bound. **Images.**
Below, beside each number. **Chosen.** Nothing: every data form and every network that was measured
is listed.
"""
APART = """Half of the smallest distance is what the data permit: up to there some classifier is
right and robust on all of these images. Fewer images lie farther apart, so that the minima of
different numbers of images do not compare.
"""
CUSTOMARY = """Twice the customary radius, 2·8/255 = {twice:.3f}, is {times:.1f} times smaller than
the smallest Linf distance, {smallest:.3f}: no two images of different classes stand in each
other's way, so the loss of accuracy under robust training is no property of these data.
"""
SMOOTH = """## Local Lipschitzness, {threat}, {images} images of each part

A slope is the mean over the images of the largest |f(x') − f(x)|₁ / |x' − x| found in the ball, by
a climb of {steps} steps from the steepest end of the ball for the network's linearisation.
"""
READ = """The slope of the logits also measures their scale, so networks of different origin
compare by the softmax. The train images include rows these networks were trained on. With {images}
images an accuracy has a standard error of up to {error:.1f} points, so the gaps are rough.
"""
# How the networks of the models folder were trained.
TRAINED = {
    "cifar10_resnet20_std": "standard",
    "cifar10_resnet56_std": "standard",
    "cifar10_small_std": "standard",
    "cifar10_cnn_a_mix": "adversarial + IBP, 2/255",
    "cifar10_resnet4b_adv2": "adversarial, 2/255",
    "cifar10_wide_kw": "provable, 2/255",
}
COMPARED = {"train-train": "training images with each other", "test-train": "test with training"}


def write_geometry(rows: Path, out: Path) -> None:
    """Write the page and its figures.

    Args:
        rows: Folder of ``<data>/separation-<norm>.json`` and of the slopes.
        out: Folder of the page.

    Raises:
        RecordError: Nothing was measured, or a file is damaged.
    """
    paths = sorted(rows.glob(f"*/{SEPARATIONS}"))
    found = {path: read_mapping(path) for path in paths}
    slopes = read_mapping(rows / SLOPES)
    if not found and not slopes:
        raise RecordError(f"{rows} holds no distances and no slopes; run the study first")
    try:
        text = [_introduction(found, slopes), *_apart(found), *_smooth(slopes)]
        drawn = {path: separation_histogram(entry) for path, entry in found.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{rows} holds a damaged measurement ({error!r}); measure again"
        ) from error
    for path, chart in drawn.items():
        title = f"How far images are apart, {path.parent.name}"
        save_figure(Figure(_figure(path), title, chart), out, ("svg",))
    write_atomically(out / PAGE, "\n".join(text).encode())


def _introduction(found: Mapping[Path, Mapping[str, Any]], slopes: Mapping[str, Any]) -> str:
    names = [entry["data"] for entry in found.values()] or [slopes["settings"]["data"]]
    return INTRODUCTION.format(data=data_name(names[0]))


def _figure(path: Path) -> str:
    """Name of the histogram of one file of distances."""
    return f"{path.stem}-{path.parent.name}"


def _apart(found: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Smallest distances, and what they permit."""
    rows, smallest = [], []
    for path, entry in found.items():
        for kind in KINDS:
            measured = entry[kind]
            linf = measured["norm"] == "linf"
            levels = 255 * measured["minimum"]
            eight_bit = linf and abs(levels - round(levels)) < 1e-6
            steps = f" = {levels:.0f}/255" if eight_bit else ""
            customary = linf and "8/255" in measured["share_within_2eps"]
            smallest += [measured["minimum"]] if customary else []
            counts = f"{measured['queries']:,} with {entry['references']:,}"
            rows.append(
                [
                    path.parent.name,
                    measured["norm"],
                    f"{counts}: {COMPARED[kind]}",
                    f"{measured['minimum']:.3f}{steps}",
                    f"{measured['quantiles']['0.05']:.3f}",
                    f"{measured['permitted_eps']:.3f}",
                ]
            )
    if not rows:
        return []
    heads = ["images", "norm", "compared", "smallest distance", "5 % quantile", "the data permit ε"]
    twice = 2 * 8 / 255
    said = []
    if smallest and min(smallest) > twice:
        low = min(smallest)
        said = [CUSTOMARY.format(twice=twice, times=low / twice, smallest=low)]
    pictures = [f"![distances, {path.parent.name}]({_figure(path)}.svg)\n" for path in found]
    return ["## Distances", "", *table(heads, rows), APART, *said, *pictures]


def _smooth(slopes: Mapping[str, Any]) -> list[str]:
    """Slopes beside accuracies, the steepest softmax first."""
    if not slopes:
        return []
    settings = slopes["settings"]
    images = settings["images"]
    rows = []
    for row in sorted(slopes["rows"], key=lambda row: -float(row["test_probabilities"])):
        steep = [
            f"{row[f'train_{output}']:,.0f} / {row[f'test_{output}']:,.0f}"
            for output in ("probabilities", "logits")
        ]
        train, test = (100 * row[f"{part}_accuracy"] for part in ("train", "test"))
        trained = TRAINED.get(row["model"], "")
        right = f"{train:.1f} / {test:.1f}"
        rows.append([row["model"], trained, *steep, right, f"{train - test:.1f}"])
    heads = ["network", "trained", "slope of softmax, train / test"]
    heads += ["slope of logits, train / test", "accuracy, train / test", "gap"]
    return [
        SMOOTH.format(threat=settings["threat"], images=images, steps=settings["steps"]),
        *table(heads, rows),
        READ.format(images=images, error=100 * (0.25 / images) ** 0.5),
    ]


__all__ = ["write_geometry"]
