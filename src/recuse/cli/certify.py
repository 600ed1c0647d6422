"""``recuse certify``: prove, per image, that an answer is constant on a ball."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from recuse.protocols import Certifier
    from recuse.records.schema import Record

AUTO = {"l2": "sequential(sigma=0.12)", "linf": "ibp"}


def certify(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    data: str | None = None,
    test_on: str | None = None,
    train_on: str | None = None,
    part: str = "test",
    allow_training_data: bool = False,
    eps: tuple[str, ...] = ("l2:0.12",),
    certifier: str = "auto",
    radius_step: float | None = None,
    doubled: bool = True,
    out: Path = Path("runs/certify"),
    name: str | None = None,
    role: str = "robust",
    limit: int | None = None,
    seed: int = 0,
    repair: bool = False,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Prove, per image, that the answer is the same on a whole ball, and keep one row per image.

    L2 balls are certified by Gaussian smoothing, Linf balls by interval bounds. A rerun draws
    nothing again for images that are finished. Every radius is also certified doubled, and at the
    radius at which a deployed stage surely answers wherever an attacker moves the image: the double
    for bounds, somewhat more for votes, of which a stage draws finitely many.

    Args:
        model: A .safetensors checkpoint, a name in the models folder (recuse models list), or
            module:function that returns an nn.Module.
        data: A data set by name (recuse data list), a folder of images or a parquet file; one that
            does not come in parts is cut in three.
        test_on: Instead of data, a data set to judge whole, or its test part where it has one.
        train_on: With test_on, the data set the model was trained on, to check that no image is in
            both.
        part: Of data, what to judge: test, validation, train or all.
        allow_training_data: Judge images that the model's card says it was trained on.
        eps: One or more norm:radius of one norm, for example l2:0.12 or linf:2/255.
        certifier: sequential(sigma=0.12) stops at a decision, fixed(sigma=0.12) is CERTIFY of Cohen
            et al.; both take sigma, the noise in pixel units (images in [0, 1]), and alpha, the
            probability of a false certificate per image. For linf ibp is fast and crown tighter
            (small ReLU networks). auto takes sequential(sigma=0.12) for l2 and ibp for linf;
            recuse values certifier lists all fields.
        radius_step: Also bracket the largest certified radius on multiples of this step.
        doubled: Certify twice every radius as well, and what a deployed stage needs.
        out: Run folder; the rows go to its records folder.
        name: Name in reports; by default the model's own.
        role: core for the accurate model that always answers, robust for a stage before it.
        limit: Only the first so many images.
        seed: Of the noise.
        repair: Certify again the images of damaged files of the record; else they are named and the
            command stops.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.cli import datasets, options
    from recuse.cli.console import progress_display
    from recuse.data import find_data_root
    from recuse.evaluation import judged_radii
    from recuse.evaluation.certify_dataset import Certification, certify_dataset
    from recuse.records.layout import RECORDS

    balls = options.threats(eps)
    part_played = options.role(role)
    asked = [ball.eps for ball in balls]
    proves = _certifier(certifier, balls[0].norm)
    grid = _grid(proves, radius_step)
    radii = {*(judged_radii(asked) if doubled else asked), *grid}
    certification = Certification(
        proves,
        tuple(sorted(radii)),
        deployed=tuple(asked) if doubled else (),
        seed=seed,
        limit=limit,
    )
    root = find_data_root(data_root)
    loaded = options.model(model, root)
    named = datasets.Named(data, train_on, test_on, part)
    judged = datasets.to_judge(
        named, (loaded,), root, limit=limit, allow_training_data=allow_training_data
    )
    with progress_display() as progress:
        record = certify_dataset(
            judged.networks[0].to(options.device(device)),
            judged.split,
            certification,
            name=name or loaded.name,
            records=out / RECORDS,
            tags={"role": part_played, **judged.tags},
            repair=repair,
            progress=progress,
        )
    print_certificates(record)


def _certifier(text: str, norm: str) -> "Certifier":
    from recuse.cli import options
    from recuse.errors import ConfigError

    certifier: Certifier = options.value(AUTO[norm] if text == "auto" else text, "certifier")
    if certifier.norm != norm:
        raise ConfigError(
            f"certifier {text} certifies {certifier.norm} balls, not {norm}; for {norm} take "
            f"{AUTO[norm]}"
        )
    return certifier


def _grid(certifier: "Certifier", step: float | None) -> tuple[float, ...]:
    from recuse.certify import GroupSequential
    from recuse.errors import ConfigError

    if step is None:
        return ()
    if not isinstance(certifier, GroupSequential):
        raise ConfigError(
            "a radius step brackets radii with the certifier sequential alone; leave it out"
        )
    return certifier.radius_grid(step)


def print_certificates(record: "Record") -> None:
    """A table of what is certified at each radius, in percent, and what it cost.

    A radius that the budget of draws cannot prove says so instead of 0.
    """
    from rich.console import Console
    from rich.table import Table

    from recuse.analysis.attainable import attainable
    from recuse.analysis.measured import CERTIFIED, rates_at
    from recuse.analysis.verdicts import verdicts

    judged = verdicts(record)
    table = Table("radius", "certified", "and right", "and wrong", title=record.meta.model)
    for radius in judged.radii("certified"):
        if not attainable(record.meta, radius):
            table.add_row(f"{record.meta.norm}:{radius}", "unattainable", "-", "-")
            continue
        found = rates_at(judged, radius, CERTIFIED)
        rates = (i.estimate for i in (found.stable, found.robust, found.robust_inaccuracy) if i)
        table.add_row(f"{record.meta.norm}:{radius}", *(f"{100 * rate:.1f}" for rate in rates))
    table.caption = (
        f"{judged.samples} images, accuracy {100 * judged.accurate().mean():.1f} %, "
        f"{judged.values('samples').mean():.0f} noisy passes per image. {_deployed(record)}"
    )
    Console(soft_wrap=True).print(table)


def _deployed(record: "Record") -> str:
    """What a deployed stage needs, in a sentence."""
    told = record.meta.settings.get("deployed")
    if told is None:
        return (
            "A selector of radius r surely selects in the whole r-ball only where 2r is certified."
        )
    alpha, beta = record.meta.settings["alpha"], told["beta"]
    parts = [
        f"of radius {eps} surely answers in its whole {eps}-ball where {needed} is certified"
        if needed is not None
        else f"of radius {eps} never surely answers, because its votes are too few"
        for eps, needed in told["needs"].items()
    ]
    return (
        f"A deployed stage {'; one '.join(parts)} (each up to a probability of alpha + beta = "
        f"{alpha:g} + {beta:g})."
    )
