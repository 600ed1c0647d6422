"""Networks that may reject, as CPR judges them: what a rejection costs by how far it is caused."""

from functools import partial

from recuse.analysis.rejection import sure_radius
from recuse.attacks import Apgd, Dlr, Ensemble, Pgd, TargetedDlr
from recuse.data import Cifar10, Subset
from recuse.evaluation import Evaluation
from recuse.evaluation.rejection import Rejection
from recuse.recipes.config import ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat

ROBUST, QUICK = "cifar10_resnet4b_adv2", "cifar10_cnn_a_mix"
# The indicator's radius as a share of eps; the first is that of CPR on CIFAR-10 at 8/255.
RADII = (0.18, 0.5, 1.0, 2.0)
SHARES = (0.0, 0.25, 0.5, 1.0)


def rejection(seed: int = 0, quick: bool = False) -> RunConfig:
    """Judge indicators of four radii by accuracy with rejection at 2/255.

    The narrowest also stands as CPR has it, by ten steps of PGD. The network alone is judged as
    far as bounds on each of them need.

    Args:
        seed: Of the attacks.
        quick: A small network, four images, two steps.
    """
    eps, limit = Threat("linf", "2/255").eps, 4 if quick else None
    data = Subset(Cifar10(train="lossless", test="lossless"), test=100)
    name, steps = (QUICK, 2) if quick else (ROBUST, 20)
    judged = partial(
        Rejection,
        "linf",
        eps,
        shares=SHARES,
        steps=steps,
        goal_steps=steps,
        seed=seed,
        limit=limit,
    )
    sure = {sure_radius(radius * eps, share, eps) for radius in RADII for share in SHARES}
    # By cross entropy alone, promises were made that attacks on the system broke.
    aimed = (Apgd(loss=TargetedDlr(rank)) for rank in (1, 2, 3))
    several = Ensemble((Apgd(), Apgd(loss=Dlr()), *aimed))
    alone = Evaluation("linf", tuple(sorted(sure)), several, seed, limit, recheck=None)
    ours = Apgd(steps=2 if quick else 39)
    return RunConfig(
        recipe="rejection",
        data=data,
        models=(ModelPlan(name, Pretrained(name), None, {"role": "robust"}),),
        judgements=(
            alone,
            judged(RADII[0] * eps, indicator=Pgd(steps=10)),
            *(judged(radius * eps, indicator=ours) for radius in RADII),
        ),
        eps=(eps,),
        gallery=0,
        page="rejection",
    )


__all__ = ["rejection"]
