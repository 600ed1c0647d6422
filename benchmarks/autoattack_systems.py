"""The adversary of whole systems against AutoAttack's standard version, on differentiable systems.

A mixture is one network, and so is a cascade behind softmax response, with a jump in it; AutoAttack
takes both as they are. Robust accuracies are compared image by image. The work goes in chunks that
are kept in ``--work``, so that a killed run goes on.
"""

import json
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
from recuse.threat import Threat

IMAGES, ALLOWED = 200, 0.005
SMALL = ("cifar10_cnn_a_mix", "cifar10_small_std")
FOUND = ("recuse:cifar10-adversarial", "cifar10_resnet56_std")
ADVERSARY = AdaptiveAdversary(steps=20, attacks=(Apgd(), Apgd(loss=Dlr())), targets=3)


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


def chunk_result(system: System, part: Split) -> dict[str, Any]:
    """What each program broke of a chunk, judged by the system as it is deployed."""
    network, cascade = system.built()
    noise = SampleNoise(0, part.ids)
    x, y = part.images, part.labels
    theirs = official_standard(network, x, y, cascade.budget)
    assert bool(cascade.budget.contains(theirs, x).all())
    return {
        "ids": part.ids,
        "natural": (cascade(x, noise=noise).label == y).tolist(),
        "ours": (~ADVERSARY(cascade, x, y, noise=noise).robust).tolist(),
        "anchor": (cascade(theirs, noise=noise).label != y).tolist(),
    }


def row(system: System, folder: Path, images: int) -> Row:
    """Images that AutoAttack breaks and ours does not, beyond those that ours alone breaks."""
    chunks = []
    for number, part in enumerate(cifar_test(images).batches(CHUNK)):
        name = system.name.replace("/", "_")
        path = folder / version() / f"{name}-{number:02d}-{len(part)}.json"
        if not path.is_file():
            torch.manual_seed(0)
            text = json.dumps(chunk_result(system, part))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"{system.name}: {min((number + 1) * CHUNK, images)} of {images}", flush=True)
        chunks.append(json.loads(path.read_text()))
    natural, ours, anchor = (
        torch.tensor([hit for chunk in chunks for hit in chunk[column]])
        for column in ("natural", "ours", "anchor")
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
