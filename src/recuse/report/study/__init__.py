"""Pages of studies: ``README.md`` and figures that are made of a run's records alone.

A study is a recipe whose config names a page. The page is prose with numbers in it, written anew
by ``recuse report`` from the committed rows.
"""

from collections.abc import Callable
from pathlib import Path

from recuse.errors import RecordError
from recuse.records.layout import CONFIG
from recuse.records.run_folder import read_mapping
from recuse.report.study.certified import write_certified
from recuse.report.study.frontier import write_frontier
from recuse.report.study.geometry import write_geometry
from recuse.report.study.losses import write_losses
from recuse.report.study.rejection import write_rejection
from recuse.report.study.runs import (
    write_cifar10,
    write_cifar10_small,
    write_digits,
    write_gaussians,
    write_gtsrb,
    write_gtsrb_transferred,
)
from recuse.report.study.selectors import write_selectors
from recuse.report.study.unsure import write_unsure

# Name of a study -> writes the page of the rows in the first folder into the second.
STUDIES: dict[str, Callable[[Path, Path], None]] = {
    "certified": write_certified,
    "digits": write_digits,
    "gaussians": write_gaussians,
    "cifar10": write_cifar10,
    "cifar10_small": write_cifar10_small,
    "gtsrb": write_gtsrb,
    "gtsrb_transferred": write_gtsrb_transferred,
    "geometry": write_geometry,
    "losses": write_losses,
    "selectors": write_selectors,
    "frontier": write_frontier,
    "rejection": write_rejection,
    "unsure": write_unsure,
}


def study_of(run: Path) -> str:
    """Name of the study that a run folder's config asks for; empty if it asks for none.

    Raises:
        RecordError: The config is damaged.
    """
    return str(read_mapping(run / CONFIG).get("page", ""))


def write_study(name: str, rows: Path, out: Path) -> None:
    """Write the page of a study.

    Args:
        name: A key of ``STUDIES``.
        rows: The run folder.
        out: Folder of the page; the run folder itself where the page is to lie beside its rows.

    Raises:
        RecordError: An unknown study, or rows that are not there or damaged.
    """
    if name not in STUDIES:
        raise RecordError(f"study {name!r} is unknown; known: {', '.join(STUDIES) or 'none'}")
    STUDIES[name](rows, out)


__all__ = ["STUDIES", "study_of", "write_study"]
