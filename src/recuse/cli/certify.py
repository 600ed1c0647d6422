"""``recuse certify``: prove, per image, that an answer is constant on a ball."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from recuse.certify import JointCertifier
    from recuse.records.schema import Record

Method = Literal["auto", "sequential", "fixed", "ibp", "crown"]


def certify(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    data: str,
    eps: tuple[str, ...] = ("l2:0.12",),
    sigma: float = 0.12,
    alpha: float = 0.001,
    n_max: int = 110_000,
    method: Method = "auto",
    radius_step: float | None = None,
    doubled: bool = True,
    out: Path = Path("runs/certify"),
    name: str | None = None,
    role: str = "robust",
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Prove, per image, that the answer is the same on a whole ball, and keep one row per image.

    L2 balls are certified by Gaussian smoothing, Linf balls by interval bounds. A rerun draws
    nothing again for images that are finished. Every radius is also certified doubled, which
    robust selection needs.

    Args:
        model: A .safetensors checkpoint, a name in the models folder (recuse models list), or
            module:function that returns an nn.Module.
        data: A data set by name (recuse data list), a folder of images or a parquet file.
        eps: One or more norm:radius of one norm, for example l2:0.12 or linf:2/255.
        sigma: Noise of the smoothing, in pixel units (images in [0, 1]).
        alpha: Probability of a false certificate per image.
        n_max: Most noisy passes per image (with method fixed: the number of them).
        method: sequential stops at a decision; fixed is CERTIFY of Cohen et al.; for linf ibp is
            fast and crown tighter (small ReLU networks); auto chooses by the norm.
        radius_step: Also bracket the largest certified radius on multiples of this step.
        doubled: Certify twice every radius as well.
        out: Run folder; the rows go to its records folder.
        name: Name in reports; by default the model's own.
        role: core for the accurate model that always answers, robust for a stage before it.
        limit: Only the first so many images.
        batch_size: Noisy images per forward pass, a multiple of 8; changes no result.
        seed: Of the noise.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.cli import options
    from recuse.cli.console import progress_display
    from recuse.data import find_data_root
    from recuse.evaluation import judged_radii
    from recuse.evaluation.certify_dataset import Certification, certify_dataset

    balls = options.threats(eps)
    asked = [ball.eps for ball in balls]
    certifier, grid = _certifier(
        method, balls[0].norm, sigma, alpha, n_max, batch_size, radius_step
    )
    radii = {*(judged_radii(asked) if doubled else asked), *grid}
    certification = Certification(certifier, tuple(sorted(radii)), seed=seed, limit=limit)
    root = find_data_root(data_root)
    loaded = options.model(model, root)
    split = options.data_source(data).load_test(root)
    with progress_display() as progress:
        record = certify_dataset(
            loaded.network.to(options.device(device)),
            split,
            certification,
            name=name or loaded.name,
            records=out / "records",
            tags={"role": role},
            progress=progress,
        )
    print_certificates(record)


def _certifier(
    method: Method,
    norm: str,
    sigma: float,
    alpha: float,
    n_max: int,
    batch_size: int | None,
    radius_step: float | None,
) -> "tuple[JointCertifier, tuple[float, ...]]":
    from recuse.certify import Cohen, Crown, GroupSequential, Ibp
    from recuse.errors import ConfigError

    if method == "auto":
        method = "ibp" if norm == "linf" else "sequential"
    if radius_step is not None and method != "sequential":
        raise ConfigError(
            f"a radius step brackets radii with method sequential, not {method}; leave it out"
        )
    if method == "ibp":
        certifier: JointCertifier = Ibp() if batch_size is None else Ibp(batch_size)
    elif method == "crown":
        certifier = Crown() if batch_size is None else Crown(batch_size)
    elif method == "fixed":
        certifier = Cohen(sigma, n_max, alpha=alpha, batch_size=batch_size)
    else:
        test = GroupSequential(sigma, n_max, alpha=alpha, batch_size=batch_size)
        return test, () if radius_step is None else test.radius_grid(radius_step)
    if certifier.norm != norm:
        raise ConfigError(
            f"method {method} certifies {certifier.norm} balls, not {norm}; leave the method out"
        )
    return certifier, ()


def print_certificates(record: "Record") -> None:
    """A table of what is certified at each radius, in percent, and what it cost.

    A radius that the budget of draws cannot prove says so instead of 0.
    """
    from rich.console import Console
    from rich.table import Table

    from recuse.analysis.attainable import attainable
    from recuse.analysis.metrics import robust_accuracy, robust_inaccuracy
    from recuse.analysis.verdicts import verdicts

    judged = verdicts(record)
    accurate = judged.accurate()
    table = Table("radius", "certified", "and right", "and wrong", title=record.meta.model)
    for radius in judged.judged("certified"):
        if not attainable(record.meta, radius):
            table.add_row(f"{record.meta.norm}:{radius}", "unattainable", "-", "-")
            continue
        certified = judged.certified(radius)
        rates = (
            float(certified.mean()),
            robust_accuracy(accurate, certified),
            robust_inaccuracy(accurate, certified),
        )
        table.add_row(f"{record.meta.norm}:{radius}", *(f"{100 * rate:.1f}" for rate in rates))
    table.caption = (
        f"{judged.samples} images, accuracy {100 * accurate.mean():.1f} %, "
        f"{judged.values('samples').mean():.0f} noisy passes per image. A selector of radius r "
        "surely selects in the whole r-ball only where 2r is certified."
    )
    Console(soft_wrap=True).print(table)
