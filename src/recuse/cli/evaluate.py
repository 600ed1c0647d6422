"""``recuse evaluate``: attack a model and keep one row per image."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def evaluate(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    data: str | None = None,
    test_on: str | None = None,
    train_on: str | None = None,
    part: str = "test",
    allow_training_data: bool = False,
    threat: tuple[str, ...] = ("linf:2/255",),
    out: Path = Path("runs/evaluate"),
    name: str | None = None,
    role: str = "robust",
    attack: str = "apgd",
    margins: bool = False,
    doubled: bool = True,
    prepared: bool = True,
    precision: str = "auto",
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    repair: bool = False,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Attack a model and keep, per image, at which radii it breaks.

    A rerun computes only what is missing. Every radius is also judged doubled, which robust
    selection needs.

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
        threat: One or more norm:eps, for example linf:2/255 or l2:0.25.
        out: Run folder; the rows go to its records folder.
        name: Name in reports; by default the model's own.
        role: core for the accurate model that always answers, robust for a stage before it.
        attack: What searches: apgd, pgd, square or ensemble, with fields such as
            apgd(steps=100, loss=dlr, restarts=2); recuse values attack lists them.
        margins: Also search the balls of --threat for the worst probabilities, by three attacks
            of 40 steps that never stop early; every threshold of softmax response
            and every mixture is counted from them.
        doubled: Judge twice every radius as well.
        prepared: Search on a copy with batch norm folded into the convolutions, where it answers
            like the model; what it finds is verified on the model. --no-prepared searches on the
            model itself.
        precision: bf16 tries a short attack on a copy in bf16 first and the full one on what that
            leaves; every verdict is given in fp32 and none is weaker. auto does so for large
            networks on a GPU; on a processor it pays where nearly all inputs break.
        limit: Only the first so many images.
        batch_size: Images attacked together; by default chosen from their size.
        seed: Of the random starts.
        repair: Attack again the images of damaged files of the record; else they are named and the
            command stops.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.attacks import Margins
    from recuse.cli import datasets, options
    from recuse.cli.console import progress_display
    from recuse.cli.show import print_summary
    from recuse.data import find_data_root
    from recuse.evaluation import Evaluation, judged_radii
    from recuse.evaluation import evaluate as run
    from recuse.records.layout import RECORDS

    balls = options.threats(threat)
    part_played = options.role(role)
    eps = [ball.eps for ball in balls]
    evaluation = Evaluation(
        norm=balls[0].norm,
        radii=judged_radii(eps) if doubled else tuple(sorted(set(eps))),
        attack=options.value(attack, "attack"),
        margins=Margins(radii=tuple(sorted(set(eps)))) if margins else None,
        seed=seed,
        limit=limit,
        batch_size=batch_size,
    )
    root = find_data_root(data_root)
    loaded = options.model(model, root)
    named = datasets.Named(data, train_on, test_on, part)
    judged = datasets.to_judge(
        named, (loaded,), root, limit=limit, allow_training_data=allow_training_data
    )
    network = judged.networks[0].to(options.device(device))
    with progress_display() as progress:
        record = run(
            network,
            judged.split,
            evaluation,
            name=name or loaded.name,
            records=out / RECORDS,
            tags={"role": part_played, **judged.tags},
            prepared=prepared,
            precision=options.screen_precision(precision, network),
            repair=repair,
            progress=progress,
        )
    print_summary([record])
