"""``recuse train``: one model, one objective."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from recuse.cli.arguments import Device, NamedData, option_group

if TYPE_CHECKING:
    from torch import nn

    from recuse.data import Split
    from recuse.models.cards import Card
    from recuse.training import TrainConfig


# Learning rate and schedule for fresh and for trained weights.
_FRESH, _TRAINED = (0.1, "step"), (1e-3, "one_drop")


@option_group
class Fitting:
    """What is minimised, and how.

    Attributes:
        objective: What is minimised: standard, robust(loss=trades), era, dga, gaussian, macer, cra,
            ibp, ..., with fields such as era(beta=0.3, robust=mart).
        threat: norm:eps of the adversarial examples.
        epochs: Passes over the training images.
        batch_size: Images per step, of all processes together.
        accumulate: Parts that a batch is cut into to fit in memory, with the gradient of the whole;
            batch norm with batch statistics sees one part at a time.
        lr: Peak learning rate; by default 0.1 for fresh weights and 0.001 to fine-tune.
        schedule: Of the learning rate: constant, one_drop (a tenth after three quarters), step or
            cosine, with fields such as step(milestones=[0.5, 0.8]); by default step for fresh
            weights and one_drop to fine-tune.
        augment: none, crop_flip, sign or autoaugment_cifar10.
        average: Average of weights that is judged and kept: none, ema or swa.
        clip_norm: Largest norm of the gradient.
        precision: fp32, or bf16 for faster forwards with fp32 weights.
        seed: Of weights, order and noise.
    """

    objective: str = "era"
    threat: str = "linf:2/255"
    epochs: int = 50
    batch_size: int = 200
    accumulate: int = 1
    lr: float | None = None
    schedule: str | None = None
    augment: str = "none"
    average: str = "none"
    clip_norm: float | None = None
    precision: str = "fp32"
    seed: int = 0

    def config(self, extra_share: float, *, fresh: bool) -> "TrainConfig":
        """The same as values, with what suits fresh or trained weights where nothing is given."""
        from recuse.cli import options
        from recuse.threat import Threat
        from recuse.training import TrainConfig

        lr, schedule = _FRESH if fresh else _TRAINED
        return TrainConfig(
            options.value(self.objective, "objective"),
            Threat.parse(self.threat),
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            lr=lr if self.lr is None else self.lr,
            schedule=options.value(self.schedule or schedule, "schedule"),
            augment=options.value(self.augment, "augmentation"),
            average=options.value(self.average, "average"),
            clip_norm=self.clip_norm,
            extra_share=extra_share,
            precision=options.precision(self.precision),
            seed=self.seed,
        )


def train(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    out: Path,
    data: NamedData,
    fitting: Fitting,
    extra: str | None = None,
    teacher: str | None = None,
    extra_share: float | None = None,
    new_head: int | None = None,
    device: Device = "auto",
) -> None:
    """Train or fine-tune a model; a killed run goes on with the same command.

    On several processes or GPUs: torchrun --nproc-per-node 2 -m recuse train ..., which ends with
    the weights of one.
    From scratch, take with era, unsure, dga or cra batch statistics and a ramp:
    --objective "era(batch_norm=train, ramp=ramp(start=0.2, end=0.5))".
    Objectives, schedules, augmentations and averages are values: a name, or a name with fields.
    recuse values objective lists them all with their fields and defaults.

    Args:
        model: Start from a .safetensors checkpoint or a name in the models folder; or draw fresh
            weights for an architecture such as resnet20 or small(size=32,dropout=0.2), which takes
            the size, the channels and the classes of the data where they are not typed.
        out: Folder for the log and the checkpoint model.safetensors.
        data: Images to train on; a limit is of these; of folders and files also of those to
            validate.
        fitting: What is minimised, and how.
        extra: Images without labels (a data set, folder or parquet file) for robust self-training.
        teacher: Accurate model that labels them, named as MODEL is.
        extra_share: Share of each batch that is extra; half by default.
        new_head: Draw the last layer anew, for this many classes: the model learns data of other
            classes than its own.
    """
    from recuse.cli import datasets, options

    config = fitting.config(_share(extra, extra_share), fresh=options.is_architecture(model))
    splits = datasets.to_train_on(data)
    network, card = options.trainable(
        model, splits.train, data.root, seed=config.seed, new_head=new_head
    )
    splits = datasets.counted_by(card, splits)
    rows = data.limited(splits.train)
    more = datasets.pseudo_labelled_data(extra, teacher, rows, data, device)
    _fit(network.to(options.device(device)), card, rows, splits.validation, config, out, more)
    datasets.leave(rows, splits.validation)


def _share(extra: str | None, share: float | None) -> float:
    from recuse.errors import ConfigError

    if extra is None and share is not None:
        raise ConfigError("--extra-share is a share of --extra, which is not given; leave it out")
    return 0.0 if extra is None else 0.5 if share is None else share


def _fit(
    network: "nn.Module",
    card: "Card",
    rows: "Split",
    validation: "Split",
    config: "TrainConfig",
    out: Path,
    extra: "Split | None",
) -> None:
    """Train, keep the checkpoint with its card, say what came out."""
    from recuse.cli.console import console, progress_display
    from recuse.cli.launched import first
    from recuse.models.checkpoint import save_checkpoint
    from recuse.recipes.obtain import describe, with_cost
    from recuse.training import fit

    described = describe(card, out.name, config, rows, extra)
    with progress_display() as progress:
        result = fit(
            network,
            rows,
            validation,
            config,
            out,
            name=out.name,
            extra=extra,
            progress=progress,
        )
    if not first():
        return
    path = out / "model.safetensors"
    device = str(next(network.parameters()).device)
    described = with_cost(described, result, config, device)
    save_checkpoint(path, result.model, described)
    names = ("natural_accuracy", "robust_accuracy", "robust_inaccuracy")
    right, robust, wrong = (100 * result.history[-1][name] for name in names)
    console.print(
        f"wrote {path}: of {len(validation):,} images to validate {right:.1f} % are right, "
        f"{robust:.1f} % robustly so, and {wrong:.1f} % robustly wrong; it took "
        f"{described.notes['training took']}",
        soft_wrap=True,
    )
