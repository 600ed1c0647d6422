"""The networks of a system, each judged by itself: what its bounds and its page are made of."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.attacks import Apgd, Margins
from recuse.composition import Core, Stage
from recuse.data.split import Split
from recuse.evaluation import Evaluation, evaluate, judged_radii
from recuse.models.mixture import Mixture, mixed
from recuse.progress import Progress
from recuse.records.layout import RECORDS
from recuse.selectors import Always, SoftmaxResponse
from recuse.threat import Threat

STEPS = 40


@dataclass(frozen=True)
class Judge:
    """Attacks networks by themselves on the images that a system is measured on.

    Attributes:
        split: The images.
        budget: The attacker's ball.
        seed: Of the searches.
        run: Run folder; a rerun does what is missing.
        progress: Told after every batch.
    """

    split: Split
    budget: Threat
    seed: int
    run: Path
    progress: Progress

    def __call__(
        self, network: nn.Module, name: str, *, role: str = "robust", worst: bool = False
    ) -> Verdicts:
        """Verdicts of a network at the budget and twice the budget.

        Args:
            network: In the order of the data's classes.
            name: Of its record.
            role: Of the record.
            worst: Search the budget's ball for its worst probabilities as well.
        """
        eps = self.budget.eps
        evaluation = Evaluation(
            self.budget.norm,
            judged_radii([eps]),
            Apgd(steps=STEPS),
            seed=self.seed,
            margins=Margins(steps=STEPS, radii=(eps,)) if worst else None,
        )
        record = evaluate(
            network,
            self.split,
            evaluation,
            name=name,
            records=self.run / RECORDS,
            tags={"role": role},
            progress=self.progress,
        )
        return verdicts(record)


def alone(member: Stage | Core, judge: Judge) -> list[Verdicts]:
    """A member of a system judged by itself; of a mixture that always answers, both its networks.

    Softmax response and mixtures are counted by the worst probabilities in the ball, the others by
    whether the answer changes.
    """
    if isinstance(member, Core):
        return [judge(member.model, member.name, role="core")]
    parts = mixed(member.model) if isinstance(member.selector, Always) else None
    if parts is None:
        worst = isinstance(member.selector, SoftmaxResponse)
        return [judge(member.model, member.name, worst=worst)]
    first, second = f"{member.name}: robust", f"{member.name}: accurate"
    if member.card is not None and isinstance(member.card.architecture, Mixture):
        first = member.card.architecture.robust.name
        second = member.card.architecture.standard.name
    first += " (mapped)" * (parts.mapped is not parts.mixture.robust)
    soft = not parts.mixture.one_hot
    return [
        judge(parts.mapped, first, worst=True),
        judge(parts.standard, second, role="core", worst=soft),
    ]


__all__ = ["Judge", "alone"]
