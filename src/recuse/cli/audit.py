"""``recuse audit``: what a network is good for, in one page and one paragraph."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def audit(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    data: Annotated[Positional[str], arg(metavar="DATA")],
    /,
    threat: str = "linf:2/255",
    core: str | None = None,
    out: Path = Path("runs/audit"),
    part: str = "test",
    allow_training_data: bool = False,
    attack: str = "apgd",
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    repair: bool = False,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Audit a network: how right, how robust, what an indicator selects, what a core would add.

    Leaves records and audit.html in the run folder, and says in one paragraph what was found and
    what to type next. The same command goes on after a kill.

    Args:
        model: A .safetensors checkpoint, a name in the models folder (recuse models list), or
            module:function that returns an nn.Module.
        data: A data set by name (recuse data list), a folder of images or a parquet file; one that
            does not come in parts is cut in three.
        threat: norm:eps of the attacker, for example linf:2/255 or l2:0.25; the double is judged
            as well.
        core: An accurate network to answer what this one leaves; what the two are worth together
            is counted.
        out: Run folder.
        part: Of data, what to judge: test, validation, train or all.
        allow_training_data: Judge images that the model's card says it was trained on.
        attack: What searches: apgd, pgd, square or ensemble, with fields such as
            apgd(steps=100, loss=dlr, restarts=2); recuse values attack lists them.
        limit: Only the first so many images.
        batch_size: Images attacked together; by default chosen from their size.
        seed: Of the random starts.
        repair: Attack again the images of damaged files of a record; else they are named and the
            command stops.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    import sys
    from contextlib import redirect_stdout

    from recuse.cli import datasets, options
    from recuse.cli.console import console, progress_display
    from recuse.data import find_data_root
    from recuse.evaluation import Evaluation, judged_radii
    from recuse.recipes.audit import Member, run_audit
    from recuse.records.layout import AUDIT
    from recuse.report.audit.words import Asked
    from recuse.threat import Threat

    ball = Threat.parse(threat)
    evaluation = Evaluation(
        norm=ball.norm,
        radii=judged_radii([ball.eps]),
        attack=options.value(attack, "attack"),
        seed=seed,
        limit=limit,
        batch_size=batch_size,
    )
    root, where = find_data_root(data_root), options.device(device)
    loaded = [options.model(name, root) for name in (model, core) if name is not None]
    with redirect_stdout(sys.stderr):  # the paragraph alone is standard output
        judged = datasets.to_judge(
            datasets.Named(data, part=part),
            tuple(loaded),
            root,
            limit=limit,
            allow_training_data=allow_training_data,
        )
    names = [m.name for m in loaded]
    if len(set(names)) < len(names):
        names[1] += " (core)"
    members = [
        Member(network.to(where), name, role)
        for network, name, role in zip(judged.networks, names, ("robust", "core"), strict=False)
    ]
    asked = Asked(
        model=model,
        data=(data,) if part == "test" else (data, "--part", part),
        threat=str(ball),
        out=str(out),
        core=core or "",
        stored=all(m.card is not None for m in loaded),
    )
    with progress_display() as progress:
        said = run_audit(
            members,
            judged.split,
            evaluation,
            asked,
            out,
            tags=judged.tags,
            repair=repair,
            progress=progress,
        )
    datasets.say(said)
    console.print(f"wrote {out / AUDIT}", soft_wrap=True)
