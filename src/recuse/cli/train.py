"""``recuse train``: one model, one objective."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def train(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    data: str,
    out: Path,
    objective: str = "era",
    threat: str = "linf:2/255",
    beta: float | None = None,
    robust: str | None = None,
    epochs: int = 50,
    batch_size: int = 200,
    lr: float = 1e-3,
    precision: str = "fp32",
    seed: int = 0,
    limit: int | None = None,
    data_root: Path | None = None,
    device: str = "auto",
) -> None:
    """Train or fine-tune a model; a killed run goes on with the same command.

    Args:
        model: Start from a .safetensors checkpoint or a name in the models folder; or draw fresh
            weights for an architecture such as resnet20 or small(size=32).
        data: A data set by name (recuse data list), a folder of images or a parquet file.
        out: Folder for the log and the checkpoint model.safetensors.
        objective: standard, adversarial, trades, mart, gairat, score, era, dga, gaussian, cra, ...
        threat: norm:eps of the adversarial examples.
        beta: Weight of the robust loss in era, dga and cra.
        robust: Robust loss inside era and dga, for example adversarial or trades.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Peak learning rate; falls to a tenth after three quarters.
        precision: fp32, or bf16 for faster forwards with fp32 weights.
        seed: Of weights, order and noise.
        limit: Train on the first so many images only.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
        device: auto, cpu or cuda.
    """
    from recuse.cli import options
    from recuse.cli.console import console, progress_display
    from recuse.data import find_data_root
    from recuse.models.checkpoint import save_checkpoint
    from recuse.recipes.pipeline import describe
    from recuse.threat import Threat
    from recuse.training import TrainConfig, fit

    root = find_data_root(data_root)
    config = TrainConfig(
        options.objective(objective, beta=beta, robust=robust),
        Threat.parse(threat),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        precision=options.precision(precision),
        seed=seed,
    )
    splits = options.data_source(data).load(root)
    network, card = options.trainable(model, splits.train, root, seed=seed)
    rows = splits.train if limit is None else splits.train.head(limit)
    with progress_display() as progress:
        result = fit(
            network.to(options.device(device)),
            rows,
            splits.validation,
            config,
            out,
            name=out.name,
            progress=progress,
        )
    path = out / "model.safetensors"
    save_checkpoint(path, result.model, describe(card, out.name, config, splits.train))
    console.print(f"{path}: {result.history[-1]}", soft_wrap=True)
