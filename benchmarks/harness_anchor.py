"""The anchors as their users run them, equal starts, and a ResNet-18 that works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import foolbox
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
_EPOCHS, _BATCH = 4, 64


def official_apgd(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, threat: Threat, loss: str = "ce"
) -> Tensor:
    """AutoAttack's APGD with 40 steps, seed 0: its adversarial points."""
    attack: Any = APGDAttack(
        model, n_iter=40, norm=OFFICIAL_NORM[threat.norm], eps=threat.eps, seed=0, loss=loss
    )
    found: Tensor = attack.perturb(x, y)
    return found


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """foolbox's PGD with 40 steps in Linf, its other settings as they come."""
    attack: Any = foolbox.attacks.LinfPGD(steps=40)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, found, _ = attack(wrapped, x, y, epsilons=threat.eps)
    assert isinstance(found, Tensor)
    return found


def official_start(x: Tensor, threat: Threat) -> Tensor:
    """The start that AutoAttack's APGD draws from seed 0 for a batch that it attacks whole."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linf = threat.norm == "linf"
        t = 2 * torch.rand(x.shape) - 1 if linf else torch.randn(x.shape)
    t = t.to(x.device)
    length = t.flatten(1).abs().amax(1) if linf else t.flatten(1).norm(dim=1)
    return (x + threat.eps * t / (length.view(-1, 1, 1, 1) + 1e-12)).clamp(0, 1)


def broken_at(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Which points have another label, by a fresh float32 pass."""
    return predictions(model, x_adv) != y


def trained_resnet18(folder: Path = Path("runs/bench")) -> nn.Module:
    """A ResNet-18 trained for some minutes against single-step attacks at 2/255, seed 0.

    Strong enough that some inputs are robust and some are not; kept in ``folder`` for later runs.
    """
    network = build_seeded(architecture("resnet18"), seed=0)
    model = normalized(network, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    path = folder / "resnet18-fgsm.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    train = Cifar10(train="lossless").load(find_data_root()).train
    _train(model, train.images, train.labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()


def _train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    order = torch.Generator().manual_seed(0)
    steps = _EPOCHS * (len(images) // _BATCH)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    threat = Threat("linf", "2/255")
    model.train()
    for step in range(steps):
        rows = torch.randint(len(images), (_BATCH,), generator=order)
        flip = torch.rand(_BATCH, 1, 1, 1, generator=order) < 0.5
        x = torch.where(flip, images[rows].flip(3), images[rows])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            leaf = x.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(leaf).float(), labels[rows])
            (grad,) = torch.autograd.grad(loss, leaf)
            x_adv = threat.project(x + threat.eps * grad.sign(), x)
            loss = torch.nn.functional.cross_entropy(model(x_adv).float(), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"training the ResNet-18: step {step} of {steps}, loss {loss:.2f}", flush=True)
