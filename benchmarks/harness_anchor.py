"""The anchors as their users run them, the same start for both sides, and a ResNet-18 that works."""

from collections.abc import Callable
from typing import Any

import torch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from harness import predictions
from recuse.data.cifar import Cifar10
from recuse.data.roots import find_data_root
from recuse.models.architectures import architecture, build_seeded
from recuse.models.normalize import normalized
from recuse.threat import Threat

OFFICIAL_NORM = {"linf": "Linf", "l2": "L2"}
_RIDGE = 10.0


def official_apgd(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, threat: Threat, loss: str = "ce"
) -> Tensor:
    """AutoAttack's APGD with 40 steps, seed 0: its adversarial points."""
    attack: Any = APGDAttack(
        model, n_iter=40, norm=OFFICIAL_NORM[threat.norm], eps=threat.eps, seed=0, loss=loss
    )
    found: Tensor = attack.perturb(x, y)
    return found


def official_start(x: Tensor, threat: Threat) -> Tensor:
    """The start that AutoAttack's APGD draws from seed 0 for a batch that it attacks whole."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linf = threat.norm == "linf"
        t = 2 * torch.rand(x.shape) - 1 if linf else torch.randn(x.shape)
    length = t.flatten(1).abs().amax(1) if linf else t.flatten(1).norm(dim=1)
    return (x + threat.eps * t / (length.view(-1, 1, 1, 1) + 1e-12)).clamp(0, 1)


def broken_at(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Which points have another label, by a fresh float32 pass."""
    return predictions(model, x_adv) != y


@torch.no_grad()
def fitted_resnet18(samples: int = 1500) -> nn.Module:
    """A ResNet-18 with seeded random features and a last layer fitted to real images.

    Its cost is that of any ResNet-18; its verdicts are those of a real, if weak, classifier.
    Batch-norm statistics come from the images, the last layer from ridge regression.
    """
    train = Cifar10(train="lossless").load(find_data_root()).train.head(samples)
    network = build_seeded(architecture("resnet18"), seed=0)
    model = normalized(network, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches
    model.train()
    for batch in train.head(384).batches(64):
        model(batch.images)
    model.eval()
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    features: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    for batch in train.batches(64):
        model(batch.images)
    hook.remove()
    _fit(head, torch.cat(features), train.labels)
    return model


def _fit(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Ridge regression of one-hot labels on standardised features, written into the layer."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    a = torch.cat([(features - mean) / std, torch.ones(len(features), 1)], 1).double()
    target = torch.nn.functional.one_hot(labels, head.out_features).double()
    penalty = _RIDGE * torch.eye(a.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(a.T @ a + penalty, a.T @ target).float()
    weight = 10 * solution[:-1].T / std
    head.weight.copy_(weight)
    head.bias.copy_(10 * solution[-1] - weight @ mean)
