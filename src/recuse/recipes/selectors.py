"""Every way to abstain on the same networks and the same threat: CIFAR-10 at 1/255 and 2/255."""

from dataclasses import replace

from recuse.analysis.operating_points import CORE, EPS, FINETUNED, PUBLISHED, TRUNK
from recuse.attacks import Apgd, Dlr, Ensemble, Margins, Pgd
from recuse.certify import Ibp
from recuse.data import Cifar10, Source, Subset
from recuse.evaluation import Evaluation, judged_radii
from recuse.evaluation.certify_dataset import Certification
from recuse.models.architectures import architecture
from recuse.recipes.cifar10_small import cifar10_small
from recuse.recipes.config import AbstentionPlan, Fresh, ModelPlan, Pretrained, RunConfig
from recuse.threat import Threat
from recuse.training import Cosine, Ramp, TrainConfig, Validation
from recuse.training.ibp import IbpTraining

THREAT = Threat("linf", "2/255")
# In place of a network trained by interval bounds one that is there, certified within so little.
QUICK_TRUNK, TINY = Pretrained("cifar10_wide_kw"), Threat("linf", 5e-4)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
# From fresh weights the radius reaches its full size at 60 % of the epochs; from certified
# features, of which a selection network only needs others, much sooner.
FRESH, WARM = Ramp(0.1, 0.6), Ramp(0.0, 0.2)


def selectors(seed: int = 0, quick: bool = False) -> RunConfig:
    """Robust networks before one core, selected by every mechanism and attacked as a whole.

    Published networks, those that cifar10_small fine-tunes, one trained by interval bounds, and
    two selection networks. What thresholds need is judged once; thresholds and weights are
    chosen on every other test image and attacked on the rest.

    Args:
        seed: Of training.
        quick: One published stage, 200 training and 16 test images, few steps.
    """
    data: Source = Cifar10(train="jpeg", test="lossless")
    stages: tuple[str, ...] = (*PUBLISHED, *FINETUNED)
    trunk = ModelPlan(
        TRUNK,
        Fresh(architecture("small", classes=10), MEAN, STD),
        _certified_training(8, FRESH, seed),
        {"role": "robust"},
    )
    plan = AbstentionPlan(_certified_training(6, WARM, seed))
    if quick:
        data, stages = Subset(Cifar10(train="lossless"), 200, 60, 16), PUBLISHED[:1]
        trunk = replace(trunk, start=QUICK_TRUNK, train=None)
        validation = replace(plan.training.validation, every=1)
        training = replace(plan.training, threat=TINY, epochs=1, validation=validation)
        plan = AbstentionPlan(training, steps=2, adversary_steps=1)
    eps = tuple(Threat("linf", radius).eps for radius in EPS)
    judged = Evaluation(
        "linf",
        judged_radii(eps),
        Ensemble((Apgd(plan.steps), Apgd(plan.steps, Dlr()))),
        seed=seed,
        margins=Margins(plan.steps),
    )
    certified = Certification(Ibp(), eps)
    trunk = replace(trunk, judgements=(judged, certified))
    small = {model.name: model for model in cifar10_small(seed=seed).models}
    models = (
        ModelPlan(CORE, Pretrained(CORE), None, {"role": "core"}),
        *(
            small.get(name) or ModelPlan(name, Pretrained(name), None, {"role": "robust"})
            for name in stages
        ),
        trunk,
    )
    return RunConfig(
        "selectors", data, models, (judged,), eps, gallery=0, abstention=plan, page="selectors"
    )


def _certified_training(epochs: int, ramp: Ramp, seed: int) -> TrainConfig:
    """Short certified training."""
    return TrainConfig(
        objective=IbpTraining(kappa=0.5, ramp=ramp),
        threat=THREAT,
        epochs=epochs,
        batch_size=200,
        lr=0.02,
        weight_decay=0.0,
        schedule=Cosine(),
        clip_norm=2.0,
        seed=seed,
        validation=Validation(Pgd(steps=1), every=epochs, limit=500),
    )
