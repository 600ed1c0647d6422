"""``recuse models``: which networks there are, and what is known about them."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def list_(data_root: Path | None = None) -> None:
    """List the networks in the models folder, and the architectures that can be trained.

    Args:
        data_root: Folder with the data sets, in or beside which the folder models lies; by
            default the variable RECUSE_DATA.
    """
    from rich.console import Console
    from rich.table import Table

    from recuse.models import ARCHITECTURES, NAMED_SIZES, model_names, show_model

    console = Console(soft_wrap=True)
    names = model_names(data_root=data_root)
    table = Table("model", "architecture", "classes", "trained against", "natural %")
    table.columns[0].no_wrap = True
    for name in names:
        card = show_model(name, data_root=data_root)
        table.add_row(
            name,
            type(card.architecture).__name__,
            str(card.architecture.classes),
            ":".join(filter(None, (card.norm, card.eps))) or "-",
            _natural(card.accuracy),
        )
    console.print(table)
    console.print(f"architectures: {', '.join([*ARCHITECTURES, *NAMED_SIZES])}", highlight=False)


def show(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    data_root: Path | None = None,
) -> None:
    """Show the card of a network: origin, architecture, input, threat, measured rates, digest.

    Args:
        model: A .safetensors checkpoint, or a name in the models folder (recuse models list).
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
    """
    from rich.console import Console

    from recuse.models import load_model

    network, card = load_model(model, data_root=data_root)
    count = sum(parameter.numel() for parameter in network.parameters())
    lines = {
        "name": card.name,
        "architecture": repr(card.architecture),
        "parameters": f"{count:,}",
        "input": f"{card.preprocessing.shape} in [{card.preprocessing.low:g}, "
        f"{card.preprocessing.high:g}], mean {card.preprocessing.mean}, "
        f"std {card.preprocessing.std} inside",
        "labels": ", ".join(card.label_names) or "-",
        "training": card.training or "-",
        "trained on": "-"
        if card.trained_on is None
        else f"{len(card.trained_on):,} images of {', '.join(card.trained_on.names)}",
        "threat": ":".join(filter(None, (card.norm, card.eps))) or "-",
        "measured": ", ".join(f"{k} {v:g}" for k, v in card.accuracy.items()) or "-",
        "origin": card.origin or "-",
        "licence": card.licence or "-",
        "sha256": card.sha256,
        **{name: str(value) for name, value in card.notes.items()},
    }
    console = Console(soft_wrap=True, highlight=False)
    for name, value in lines.items():
        console.print(f"{name:<13} {value}", markup=False)


def export(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    out: Annotated[Positional[Path], arg(metavar="FILE.onnx")],
    /,
    data_root: Path | None = None,
) -> None:
    """Write a network as ONNX, normalisation inside, any batch size; checked against the original.

    Args:
        model: A .safetensors checkpoint, or a name in the models folder (recuse models list).
        out: File to write.
        data_root: Folder with the data sets; by default the variable RECUSE_DATA.
    """
    from rich.console import Console

    from recuse.integrations.onnx import export_onnx
    from recuse.models import load_model

    network, card = load_model(model, data_root=data_root)
    error = export_onnx(network, card.preprocessing.shape, out)
    Console(soft_wrap=True).print(f"{out}: logits differ by at most {error:.1e}", markup=False)


def _natural(accuracy: dict[str, float]) -> str:
    """The natural accuracy measured on the most images: ``nat_acc_1000`` before ``nat_acc_200``."""
    counted = {int(k.rpartition("_")[2]): v for k, v in accuracy.items() if k[:8] == "nat_acc_"}
    rate = accuracy.get("natural_accuracy", counted.get(max(counted, default=0)))
    return "-" if rate is None else f"{100 * rate:.1f}"
