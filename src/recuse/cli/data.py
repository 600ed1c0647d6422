"""``recuse data``: which data sets there are, what is in them, and crops from detection data."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recuse.cli.arguments import DataRoot, DataSet, Reading


def list_(data_root: DataRoot = None) -> None:
    """List the data sets by name, and whether their files are there."""
    from rich.console import Console
    from rich.table import Table

    from recuse.data.roots import find_data_root
    from recuse.data.sources import DATASETS, NEED_PATHS, missing_files

    root = find_data_root(data_root)
    table = Table("data set", "what", "here")
    for name, kind in DATASETS.items():
        if name in NEED_PATHS:
            continue
        missing = missing_files(name, root)
        what = (kind.__doc__ or "").strip().splitlines()[0].replace("``", "")
        table.add_row(name, what, "yes" if not missing else f"no {', '.join(missing)}")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(
        "also: a parquet file, a folder <class>/<file>.png, a folder of recuse data crop,"
    )
    console.print("hub:owner/name, a folder that datasets' save_to_disk wrote")
    console.print("what is missing: recuse data get NAME")


def show(
    data: DataSet,
    /,
    reading: Reading = Reading(),
    out: Path | None = None,
) -> None:
    """Load a data set, count its images per part and class, and draw some of them.

    Args:
        reading: How the images are read.
        out: Write a contact sheet of test images to this PNG file.
    """
    from rich.console import Console
    from rich.table import Table

    from recuse.cli.datasets import leave, parts_of
    from recuse.data.sheet import contact_sheet
    from recuse.data.split import stratified_order
    from recuse.records.store import write_atomically

    splits = parts_of(data, reading)
    parts = tuple(reading.limited(part) for part in (splits.train, splits.validation, splits.test))
    table = Table("class", *(part.name for part in parts))
    counts = [part.labels.bincount(minlength=part.classes).tolist() for part in parts]
    for label, name in enumerate(splits.test.label_names):
        table.add_row(name, *(str(count[label]) for count in counts))
    table.add_row("all", *(str(len(part)) for part in parts), end_section=True)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"images {list(splits.test.shape)} in [0, 1], {splits.test.classes} classes")
    if out is not None and len(splits.test.shape) == 3:
        some = splits.test.take(stratified_order(splits.test.labels)[:96])
        names = [some.label_names[label] for label in some.labels.tolist()]
        write_atomically(out, contact_sheet(list(some.images), names, columns=12))
    leave(*parts)


def get(
    name: Annotated[Positional[str], arg(metavar="NAME")],
    /,
    data_root: DataRoot = None,
) -> None:
    """Download a data set into the data folder, or say how to get it where that is impossible.

    Files come from their authors' site alone, over https, and are kept only if they are the
    published ones.

    Args:
        name: cifar10 or cifar100; of gtsrb and mnist it says how.
    """
    from recuse.cli.console import progress_display
    from recuse.cli.datasets import say
    from recuse.data import download
    from recuse.data.roots import VARIABLE, find_data_root
    from recuse.errors import DataError

    root = find_data_root(data_root)
    steps = download.instructions(name, root)
    try:
        if name in download.BY_HAND:
            raise DataError(f"{name} is not published in the form that is read; get it by hand")
        if root is None:
            raise DataError(f"no data folder: set {VARIABLE} or pass --data-root")
        with progress_display() as progress:
            path = download.fetch(download.DOWNLOADS[name], root, progress=progress)
    except DataError:
        for number, step in enumerate(steps, 1):
            say(f"{number}. {step}")
        raise
    say(f"{path} is the published file; next: recuse data show {name}")


def crop(
    layout: Annotated[Positional[str], arg(metavar="{mtsd,coco,gtsrb}")],
    root: Annotated[Positional[Path], arg(metavar="FOLDER")],
    out: Annotated[Positional[Path], arg(metavar="OUT")],
    /,
    size: int = 64,
    slack: float = 1.0,
    min_samples: int = 2,
    seed: int = 0,
) -> None:
    """Turn detection data into a classification set: one image per marked sign.

    Each box is enlarged by the slack, split at random between its sides, clipped, cut and
    resized. Objects flagged occluded, out-of-frame, exterior, ambiguous, included or dummy and
    those labelled other-sign are left out and listed in skipped.csv. A killed run goes on where
    it was. The result is a data set: recuse data show OUT.

    Args:
        layout: mtsd (annotations, splits, images), coco (annotations/train.json, images) or
            gtsrb (gtsrb_train.parquet, gtsrb_test.parquet).
        root: Folder with the detection data.
        out: Folder to fill.
        size: Side of the images.
        slack: Share of the box's side to add, 1 doubles it.
        min_samples: Leave out classes with fewer training images.
        seed: Of the random splits.
    """
    from rich.console import Console

    from recuse.cli.console import progress_display
    from recuse.cli.options import annotation_layout
    from recuse.data.crops import CropSettings
    from recuse.data.detection import crop_detections

    kind = annotation_layout(layout)
    settings = CropSettings(size=size, slack=slack, seed=seed, min_samples=min_samples)
    with progress_display() as progress:
        report = crop_detections(root, out, layout=kind, settings=settings, progress=progress)
    console = Console(soft_wrap=True, highlight=False)
    written = ", ".join(f"{count} {part}" for part, count in report.images.items())
    console.print(f"{report.folder}: {written} images of {len(report.label_names)} classes")
    for reason, count in report.skipped.items():
        console.print(f"left out: {count} {reason}")
    for mode, count in report.converted.items():
        console.print(f"converted to RGB: {count} from {mode}")
    console.print(f"every object left out is listed in {report.folder / 'skipped.csv'}")
