"""``recuse audit``: what a network is good for, in one page and one paragraph."""

from pathlib import Path
from typing import TYPE_CHECKING

from recuse.cli.arguments import DataSet, Device, JudgedData, Judging, Model, Repair

if TYPE_CHECKING:
    from recuse.cli.datasets import ToJudge
    from recuse.evaluation import Evaluation
    from recuse.recipes.audit import Member
    from recuse.report.audit.words import Asked


def audit(
    model: Model,
    data: DataSet,
    /,
    judging: Judging = Judging(),
    threat: str = "linf:2/255",
    core: str | None = None,
    out: Path = Path("runs/audit"),
    attack: str = "apgd",
    batch_size: int | None = None,
    seed: int = 0,
    repair: Repair = False,
    device: Device = "auto",
) -> None:
    """Audit a network: how right, how robust, what an indicator selects, what a core would add.

    Leaves records and audit.html in the run folder, and says in one paragraph what was found and
    what to type next. The same command goes on after a kill.

    Args:
        judging: Images to judge, and how they are read.
        threat: norm:eps of the attacker, for example linf:2/255 or l2:0.25; the double is judged
            as well.
        core: An accurate network to answer what this one leaves; what the two are worth together
            is counted.
        out: Run folder.
        attack: What searches: apgd, pgd, square or ensemble, with fields such as
            apgd(steps=100, loss=dlr, restarts=2); recuse values attack lists them.
        batch_size: Images attacked together; by default chosen from their size.
        seed: Of the random starts.
    """
    import sys
    from contextlib import redirect_stdout

    from recuse.cli import datasets, options
    from recuse.cli.console import console
    from recuse.evaluation import Evaluation, judged_radii
    from recuse.records.layout import AUDIT
    from recuse.report.audit.words import Asked
    from recuse.threat import Threat

    ball = Threat.parse(threat)
    radii, searches = judged_radii([ball.eps]), options.value(attack, "attack")
    evaluation = Evaluation(ball.norm, radii, searches, seed, judging.limit, batch_size)
    named = JudgedData(data=data, **vars(judging))
    with redirect_stdout(sys.stderr):  # the paragraph alone is standard output
        judged = datasets.to_judge(named, (model,) if core is None else (model, core), device)
    stored = all(card is not None for _, _, card in judged.members)
    part = () if judging.part == "test" else ("--part", judging.part)
    images = (data, *part)
    asked = Asked(model, images, str(ball), str(out), core or "", stored, judging.words())
    datasets.say(_audited(judged, evaluation, asked, out, repair=repair))
    console.print(f"wrote {out / AUDIT}", soft_wrap=True)
    datasets.leave(judged.split)


def _audited(
    judged: "ToJudge", evaluation: "Evaluation", asked: "Asked", out: Path, *, repair: bool
) -> str:
    from recuse.cli.console import progress_display
    from recuse.recipes.audit import run_audit

    with progress_display() as progress:
        return run_audit(
            _members(judged),
            judged.split,
            evaluation,
            asked,
            out,
            tags=judged.tags,
            repair=repair,
            progress=progress,
        )


def _members(judged: "ToJudge") -> "list[Member]":
    """The network, and the core under a name of its own."""
    from recuse.recipes.audit import Member

    (network, name, _), *rest = judged.members
    cores = [(core, f"{own} (core)" if own == name else own) for core, own, _ in rest]
    return [Member(network, name, "robust"), *(Member(*core, "core") for core in cores)]
