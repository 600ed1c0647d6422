"""The demo: real digits, a standard core, TRADES, and ERA over its trade-off, in two minutes."""

from dataclasses import replace

from recuse.attacks import Apgd
from recuse.data import Digits
from recuse.evaluation import Evaluation, judged_radii
from recuse.models import SmallConvNet
from recuse.protocols import Objective
from recuse.recipes.config import Earlier, Fresh, ModelPlan, RunConfig
from recuse.threat import Threat
from recuse.training import Cosine, Era, Robust, Standard, TrainConfig

BETAS: tuple[float, ...] = (3.0, 1.0, 0.3)
THREAT = Threat("linf", 0.1)


def digits(
    threat: Threat = THREAT, seed: int = 0, epochs: int = 40, quick: bool = False
) -> RunConfig:
    """Train on scikit-learn's 8x8 digits and judge at half the training radius and at the whole.

    ERA starts from the TRADES network, as the paper fine-tunes, for a third of the epochs.

    Args:
        threat: What the robust networks are trained against.
        seed: Of weights, order, noise and attacks.
        epochs: Of the core and of TRADES.
        quick: Six epochs, one beta and 60 images.
    """
    betas = BETAS
    if quick:
        epochs, betas = min(epochs, 6), BETAS[-1:]
    start = Fresh(SmallConvNet(channels=1, size=8, classes=10))
    core, trades = (_training(loss, threat, epochs, seed=seed) for loss in (Standard(), Robust()))
    core = replace(core, clip_norm=None)
    plans = [
        ModelPlan("core", start, core, {"role": "core", "loss": "standard"}, seed=seed),
        ModelPlan("trades", start, trades, {"role": "robust", "loss": "trades"}, seed=seed),
    ]
    for beta in betas:
        era = replace(_training(Era(beta=beta), threat, max(1, epochs // 3), seed=seed), lr=0.02)
        tags = {"role": "robust", "loss": "era", "beta": beta}
        plans.append(ModelPlan(f"era-{beta:g}", Earlier("trades"), era, tags, seed=seed))
    eps = (threat.eps / 2, threat.eps)
    return RunConfig(
        recipe="digits",
        data=Digits(),
        models=tuple(plans),
        judgements=(
            Evaluation(
                threat.norm,
                judged_radii(eps),
                Apgd(steps=40),
                seed=seed,
                limit=60 if quick else None,
            ),
        ),
        eps=eps,
        page="digits",
    )


def _training(objective: Objective, threat: Threat, epochs: int, *, seed: int) -> TrainConfig:
    return TrainConfig(
        objective,
        threat,
        epochs=epochs,
        batch_size=64,
        lr=0.05,
        schedule=Cosine(),
        seed=seed,
        clip_norm=5.0,
    )
