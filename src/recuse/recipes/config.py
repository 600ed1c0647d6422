"""A complete run as a frozen value: what to train, what to judge, by what, what to write."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recuse.attacks import ATTACKS, CRITERIA, LOSSES, Margins, MaskingCheck
from recuse.certify import CERTIFIERS
from recuse.composition import AdaptiveAdversary
from recuse.data import DATASETS, Source, Subset
from recuse.data.augment import AUGMENTATIONS
from recuse.errors import ConfigError
from recuse.evaluation import Evaluation
from recuse.evaluation.attack_cascade import CascadeAttack
from recuse.evaluation.attack_certificates import CertificateAttack
from recuse.evaluation.certify_dataset import Certification
from recuse.evaluation.rejection import Rejection
from recuse.geometry import Lipschitz
from recuse.models.architectures import Architecture, architecture_classes
from recuse.protocols import Selector
from recuse.radius import Norm
from recuse.records.configs import read_config
from recuse.selectors import SELECTORS, InnerSearch
from recuse.serialize import from_plain
from recuse.threat import Threat
from recuse.training import OBJECTIVES, TrainConfig, training_classes


@dataclass(frozen=True)
class Fresh:
    """Weights drawn anew.

    Attributes:
        architecture: The network.
        mean: Normalisation inside the network, per channel; none if empty.
        std: Likewise.
    """

    architecture: Architecture
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """Weights of a checkpoint or of a network in the models folder.

    Attributes:
        ref: As :func:`recuse.models.zoo.load_model` takes it.
    """

    ref: str


@dataclass(frozen=True)
class NewHead:
    """Weights of a network for other classes, the last layer drawn anew for those of the data.

    Attributes:
        ref: As :func:`recuse.models.zoo.load_model` takes it.
    """

    ref: str


@dataclass(frozen=True)
class Earlier:
    """Weights of a model that the same run has trained before.

    Attributes:
        name: Its name in the run.
    """

    name: str


Judgement = Evaluation | Certification | CertificateAttack | Rejection


@dataclass(frozen=True)
class ModelPlan:
    """One model of a run.

    Attributes:
        name: Unique in the run; names the checkpoint and the record.
        start: Where its weights come from.
        train: How it is trained from there; judged as it is if absent.
        tags: What figures group by: ``role`` (``core`` or ``robust``), ``loss``, ``beta``, ...
        data: A data set of its own, where a run repeats over draws; else the run's.
        seed: Of its initial weights.
        judgements: What it is judged by, one after the other: an attack on certificates meets
            those before it. Absent for the run's own, empty for a network that others only start
            from.
        half: Round the weights of layers to 16 bits once trained: what is judged, and what others
            start from, is then what takes half the space.
    """

    name: str
    start: Fresh | Pretrained | NewHead | Earlier
    train: TrainConfig | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    data: Source | None = None
    seed: int = 0
    judgements: tuple[Judgement, ...] | None = None
    half: bool = False


@dataclass(frozen=True)
class CompositionPlan:
    """An attack on one composition of the run's models as a whole.

    Attributes:
        stages: Names of models of the run, in the order in which they answer.
        selectors: One a stage.
        core: Name of the model that answers the rest, on whose data it is attacked.
        budget: What the attacker may do.
        attack: Adversary, seed and number of samples.
    """

    stages: tuple[str, ...]
    selectors: tuple[Selector, ...]
    core: str
    budget: Threat
    attack: CascadeAttack = field(default_factory=CascadeAttack)

    def __post_init__(self) -> None:
        if not self.stages or len(self.stages) != len(self.selectors):
            raise ConfigError(
                f"a composition needs one selector a stage: {len(self.stages)} stages, "
                f"{len(self.selectors)} selectors"
            )


@dataclass(frozen=True)
class SeparationPlan:
    """How far differently labelled images of a data set are apart.

    Attributes:
        name: Folder of the result.
        data: The images.
        norm: Of the distance.
        eps: Radii to hold against the distances.
        limit: Only the first so many training and test images; all if absent.
    """

    name: str
    data: Source
    norm: Norm
    eps: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True)
class SlopePlan:
    """How fast every network of the run changes near training and test images.

    Attributes:
        threat: The ball.
        methods: Searches, one an output.
        images: The first so many images of each part.
        seed: Of the random starts.
    """

    threat: Threat
    methods: tuple[Lipschitz, ...]
    images: int
    seed: int = 0


@dataclass(frozen=True)
class AbstentionPlan:
    """Every way to abstain on the run's networks, each at its operating point, attacked.

    Attributes:
        training: Of the selection networks.
        steps: Of the attacks that measure the networks, and of those inside selectors.
        adversary_steps: Gradient steps of the adversary of whole systems towards each goal.
    """

    training: TrainConfig
    steps: int = 40
    adversary_steps: int = 20


@dataclass(frozen=True)
class RunConfig:
    """A run: data, models, judgements, geometry, ways to abstain, page.

    Attributes:
        recipe: Name of the recipe it came from.
        data: The data set.
        models: In training order; an :class:`Earlier` start names one further up.
        judgements: What every model is judged by, on the test part, unless its plan says.
        eps: The attacker's radii; evaluations hold their doubles too.
        gallery: How many abstained inputs to picture.
        grid: Points per side of a decision map, for two-dimensional data; 0 for none.
        attacks: On compositions of the models.
        separations: Distances to measure.
        slopes: What to measure of every network; nothing if absent.
        abstention: How ways to abstain are compared; not at all if absent.
        page: Name of the study whose page is written from the records; none if empty.
    """

    recipe: str
    data: Source
    models: tuple[ModelPlan, ...]
    judgements: tuple[Judgement, ...]
    eps: tuple[float, ...]
    gallery: int = 12
    grid: int = 0
    attacks: tuple[CompositionPlan, ...] = ()
    separations: tuple[SeparationPlan, ...] = ()
    slopes: SlopePlan | None = None
    abstention: AbstentionPlan | None = None
    page: str = ""

    def __post_init__(self) -> None:
        names = [plan.name for plan in self.models]
        if len(set(names)) < len(names):
            raise ConfigError(f"recipe {self.recipe!r} names a model twice: {names}")
        for position, plan in enumerate(self.models):
            start = plan.start
            if isinstance(start, Earlier) and start.name not in names[:position]:
                raise ConfigError(
                    f"model {plan.name!r} starts from {start.name!r}, not yet trained"
                )
        for composition in self.attacks:
            if unknown := {*composition.stages, composition.core} - set(names):
                raise ConfigError(f"a composition names {min(unknown)!r}, which the run has not")
        evaluation = self.evaluation
        lacking = [e for e in self.eps if evaluation and 2 * e not in evaluation.radii]
        if lacking:
            raise ConfigError(f"robust selection at {lacking[0]:g} needs the doubled radius judged")

    @property
    def evaluation(self) -> Evaluation | None:
        """The first attack that every model is judged by, if any."""
        return next((j for j in self.judgements if isinstance(j, Evaluation)), None)

    def judgements_of(self, plan: ModelPlan) -> tuple[Judgement, ...]:
        """What a model of the run is judged by."""
        return self.judgements if plan.judgements is None else plan.judgements

    def limited(self, limit: int) -> "RunConfig":
        """The same run, judged on only the first ``limit`` test samples."""

        def of(judgements: tuple[Judgement, ...]) -> tuple[Judgement, ...]:
            return tuple(replace(judgement, limit=limit) for judgement in judgements)

        plans = tuple(
            plan if plan.judgements is None else replace(plan, judgements=of(plan.judgements))
            for plan in self.models
        )
        attacks = tuple(replace(a, attack=replace(a.attack, limit=limit)) for a in self.attacks)
        return replace(self, models=plans, judgements=of(self.judgements), attacks=attacks)


def read_run_config(path: Path) -> RunConfig:
    """The config that a run has left, also one of an older version.

    Raises:
        ConfigError: Not one, or of a newer version.
    """
    fields = read_config(path)
    try:
        config = from_plain(fields, config_classes())
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be run by this version: {error}") from error
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{path} is not the config of a run")
    return config


def config_classes() -> Mapping[str, type]:
    """Every dataclass that a run config can hold, by class name."""
    models = (Fresh, Pretrained, NewHead, Earlier, ModelPlan, CompositionPlan)
    plans = (*models, SeparationPlan, SlopePlan, Lipschitz, AbstentionPlan, RunConfig)
    judgements = (Evaluation, MaskingCheck, Margins, Certification, Rejection)
    attacks = (CascadeAttack, CertificateAttack, AdaptiveAdversary, InnerSearch)
    own = (*plans, *judgements, *attacks, Threat, Subset)
    tables: tuple[Mapping[str, type], ...] = (ATTACKS, LOSSES, CRITERIA, CERTIFIERS, SELECTORS)
    tables = (*tables, DATASETS, OBJECTIVES, AUGMENTATIONS)
    found = [*own, *training_classes(), *(kind for table in tables for kind in table.values())]
    return {kind.__name__: kind for kind in found} | dict(architecture_classes())
