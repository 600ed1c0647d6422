"""The adversary of whole systems against AutoAttack's standard version, on differentiable systems.

A mixture is one network, and so is a cascade behind softmax response, with a jump in it; AutoAttack
takes both as they are. Robust accuracies are compared image by image. The work goes in chunks that
are kept in ``--work``, so that a killed run goes on; changed code begins anew.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoattack import CHUNK, official_standard, version
from harness import Row, cifar_test, options, report, shared_model
from recuse.attacks import Apgd, Dlr
from recuse.composition import AdaptiveAdversary, Cascade, Core, ProbabilityMixture, Stage
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.selectors import Always, SoftmaxResponse
from recuse.serialize import to_plain
from recuse.threat import Threat

IMAGES, ALLOWED = 200, 0.005
SMALL = ("cifar10_cnn_a_mix", "cifar10_small_std")
FOUND = ("recuse:cifar10-adversarial", "cifar10_resnet56_std")
# A mixture of small networks that twenty steps leave falls in a hundred.
ADVERSARY = AdaptiveAdversary(steps=100, attacks=(Apgd(), Apgd(loss=Dlr())), targets=3)


class SoftmaxCascade(nn.Module):
    """A cascade behind softmax response as one network: the logits of whoever answers."""

    def __init__(self, robust: nn.Module, core: nn.Module, threshold: float) -> None:
        super().__init__()
        self.robust, self.core, self.threshold = robust, core, threshold

    def forward(self, x: Tensor) -> Tensor:
        first = self.robust(x)
        sure = first.softmax(1).amax(1, keepdim=True) >= self.threshold
        return torch.where(sure, first, self.core(x))


@dataclass(frozen=True)
class System:
    """Two networks and how they decide together.

    Attributes:
        kind: mixture, one-hot-mixture or softmax.
        members: Robust network, then the accurate one.
        number: Weight of the robust one, or threshold.
        eps: The attacker's radius.
    """

    kind: str
    members: tuple[str, str]
    number: float
    eps: str

    @property
    def name(self) -> str:
        """As a search would print it, without the names of data."""
        names = (name.removeprefix("recuse:") for name in self.members)
        first, second = (name.removeprefix("cifar10_") for name in names)
        return f"{self.kind}({first}, {second}; {self.number:g}) {self.eps}"

    def built(self) -> tuple[nn.Module, Cascade]:
        """One network for AutoAttack, and the same decisions as a composition."""
        (robust, core), budget = map(shared_model, self.members), Threat("linf", self.eps)
        if self.kind == "softmax":
            stage = Stage(robust, SoftmaxResponse(self.number), "robust")
            cascade = Cascade((stage,), Core(core, "core"), budget)
            return SoftmaxCascade(robust, core, self.number).eval(), cascade
        mixed = ProbabilityMixture(
            robust, core, alpha=self.number, one_hot=self.kind != "mixture"
        ).eval()
        return mixed, Cascade((Stage(mixed, Always(), "mixture"),), None, budget)


# Those of small networks, and those that recuse cascade search finds on results/frontier at a
# natural loss of 2.5 points.
SYSTEMS = {
    "small": (
        System("softmax", SMALL, 0.6, "2/255"),
        System("mixture", SMALL, 0.65, "2/255"),
        System("one-hot-mixture", SMALL, 0.65, "2/255"),
    ),
    "found": (
        System("softmax", FOUND, 0.5194, "2/255"),
        System("mixture", FOUND, 0.7885, "2/255"),
        System("one-hot-mixture", FOUND, 0.7885, "2/255"),
    ),
}


def broken_by_anchor(system: System, part: Split) -> dict[str, Any]:
    """What is right without an attack, and what AutoAttack broke, judged by the system deployed."""
    network, cascade = system.built()
    noise = SampleNoise(0, part.ids)
    torch.manual_seed(0)
    theirs = official_standard(network, part.images, part.labels, cascade.budget)
    assert bool(cascade.budget.contains(theirs, part.images).all())
    return {
        "ids": part.ids,
        "natural": (cascade(part.images, noise=noise).label == part.labels).tolist(),
        "anchor": (cascade(theirs, noise=noise).label != part.labels).tolist(),
    }


def broken_by_ours(system: System, part: Split) -> dict[str, Any]:
    """What our adversary broke."""
    _, cascade = system.built()
    found = ADVERSARY(cascade, part.images, part.labels, noise=SampleNoise(0, part.ids))
    return {"ids": part.ids, "ours": (~found.robust).tolist()}


Judge = Callable[[System, Split], dict[str, Any]]


def chunks(
    system: System, folder: Path, images: int, judge: Judge, suffix: str
) -> Iterator[dict[str, Any]]:
    """Every chunk as one program judges it; what lies in ``folder`` already is read."""
    for number, part in enumerate(cifar_test(images).batches(CHUNK)):
        name = system.name.replace("/", "_")
        path = folder / version() / f"{name}-{number:02d}-{len(part)}-{suffix}.json"
        if not path.is_file():
            text = json.dumps(judge(system, part))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(
                f"{system.name}, {suffix}: {min((number + 1) * CHUNK, images)} of {images}",
                flush=True,
            )
        yield json.loads(path.read_text())


def row(system: System, folder: Path, images: int) -> Row:
    """Images that AutoAttack breaks and ours does not, beyond those that ours alone breaks."""
    theirs = list(chunks(system, folder, images, broken_by_anchor, "anchor"))
    own = list(chunks(system, folder, images, broken_by_ours, "ours"))
    assert [part["ids"] for part in theirs] == [part["ids"] for part in own]
    natural, ours, anchor = (
        torch.tensor([hit for chunk in parts for hit in chunk[column]])
        for parts, column in ((theirs, "natural"), (own, "ours"), (theirs, "anchor"))
    )
    fewer, n = int(anchor.sum()) - int(ours.sum()), len(ours)
    return Row(
        f"{system.name}: broken by AutoAttack, fewer by ours",
        max(fewer, 0),
        0,
        fewer,
        ALLOWED * n,
        "mismatches",
        {
            "inputs": n,
            "adversary": to_plain(ADVERSARY),
            "natural_accuracy": float(natural.double().mean()),
            "robust_accuracy": {
                "ours": 1 - float(ours.double().mean()),
                "anchor": 1 - float(anchor.double().mean()),
            },
            "only_ours": int((ours & ~anchor).sum()),
            "only_anchor": int((anchor & ~ours).sum()),
            "meaning": "0.5 points are allowed",
        },
    )


def main() -> None:
    parser = options(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-autoattack-systems"))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--systems", choices=[*SYSTEMS], default="small")
    kinds = [system.kind for system in SYSTEMS["small"]]
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    chosen = parser.parse_args()

    def run() -> list[Row]:
        systems = [one for one in SYSTEMS[chosen.systems] if one.kind in chosen.kinds]
        return [row(system, chosen.work, chosen.images) for system in systems]

    report(run, chosen.threads, chosen.json)


if __name__ == "__main__":
    main()
