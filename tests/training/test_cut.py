"""A batch may be cut as memory asks: its gradient and its log stay the same."""

import pytest
import torch

from recuse.attacks.pgd import Pgd
from recuse.data import Digits
from recuse.models import Mlp, build_seeded
from recuse.threat import Threat
from recuse.training import (
    OBJECTIVES,
    ROBUST_LOSSES,
    Dga,
    Era,
    GairTrades,
    LiteralEra,
    Ramp,
    Robust,
    TrainConfig,
    Unsure,
)
from recuse.training.batches import Batch
from recuse.training.forward import Trainee
from recuse.training.reweighted import DiscreteWeights, SigmoidWeights
from recuse.training.steps import differentiate

ROWS = 14
# So wide that the attack needs few steps for some rows and all for others.
THREAT = Threat("linf", 0.3)
QUICK = Pgd(steps=4)
OUTER = {"era": Era, "literal_era": LiteralEra, "dga": Dga, "unsure": Unsure}


def quick(kind):
    """The objective by default, with a short attack if it has one."""
    return kind(attack=QUICK) if hasattr(kind(), "attack") else kind()


# Until half of training the penalty is at 0.6 of its weight.
FADING, PROGRESS = Ramp(0.0, 1.0), 0.6


CASES = (
    {name: quick(kind) for name, kind in OBJECTIVES.items()}
    | {name: Robust(loss(), QUICK) for name, loss in ROBUST_LOSSES.items()}
    | {
        f"{outer} of {name}": kind(beta=0.7, ramp=FADING, robust=loss(), attack=QUICK)
        for outer, kind in OUTER.items()
        for name, loss in ROBUST_LOSSES.items()
    }
)
CASES["sigmoid weights"] = Robust(GairTrades(weights=SigmoidWeights()), QUICK)
CASES["linear weights"] = Robust(GairTrades(weights=DiscreteWeights()), QUICK)


@pytest.fixture(scope="module")
def batch():
    split = Digits().load(None).train.head(ROWS)
    return Batch(split.images, split.labels, split.ids, ROWS)


def gradient_and_log(objective, batch, parts):
    model = build_seeded(Mlp(shape=(1, 8, 8), classes=10, width=16), 0).double()
    config = TrainConfig(objective, THREAT)
    log = differentiate(Trainee(model), batch, config, progress=PROGRESS, epoch=0, parts=parts)
    return torch.cat([p.grad.flatten() for p in model.parameters()]), log


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_does_not_depend_on_the_cut(name, batch):
    whole, log = gradient_and_log(CASES[name], batch, 1)
    assert whole.abs().max() > 1e-4
    for parts in (2, 4, 7):
        found, cut_log = gradient_and_log(CASES[name], batch, parts)
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
        assert cut_log.keys() == log.keys()
        for key, value in log.items():
            assert float(cut_log[key]) == pytest.approx(float(value), rel=1e-12), key
