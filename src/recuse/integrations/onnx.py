"""Networks as ONNX files, for serving without PyTorch (extra ``onnx``).

What searches cannot be exported: a search needs gradients, which ONNX does not carry.
"""

import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recuse.errors import ConfigError, DataError
from recuse.models.folding import fold_batchnorm
from recuse.modes import evaluation_mode
from recuse.random import generator
from recuse.records.store import write_atomically

TOLERANCE = 1e-5
ABOUT = "recuse"
_PROBES = 4


def export_onnx(
    model: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    labels: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> float:
    """Write a network as one ONNX file and check it against the original.

    Input ``images``, output ``logits``, any batch size. Batch norm is folded first.

    Args:
        model: Any network; it is left as it was.
        shape: Shape of one input, without the batch.
        path: File to write; it appears only if it passed the check.
        labels: Names of the classes, for the file's metadata.
        about: Anything else for the metadata, JSON values.

    Returns:
        Largest difference of the logits on random images, as ONNX Runtime computes them.

    Raises:
        ConfigError: The extra is not installed, or ONNX cannot express the network.
        DataError: The exported network answers differently.
    """
    images = torch.rand((_PROBES, *shape), generator=generator("onnx"))
    with evaluation_mode(model), torch.no_grad():
        device = next((p.device for p in model.parameters()), images.device)
        expected = model(images.to(device)).cpu()
    data = onnx_program(
        fold_batchnorm(model).module.cpu(), images, ("logits",), {0: "batch"}, labels, about
    )
    (logits,) = run_onnx(data, images, ("logits",))
    error = float((torch.from_numpy(logits) - expected).abs().max())
    if not error <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise DataError(f"the ONNX file would answer differently by {error:.3g}; not written")
    write_atomically(path, data)
    return error


def onnx_program(
    network: nn.Module,
    images: Tensor,
    outputs: Sequence[str],
    dynamic: Mapping[int, str],
    labels: Sequence[str],
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """An ONNX file of a module from ``images`` to ``outputs``, unchecked.

    Args:
        network: In eval mode, on the CPU.
        images: An example of its input.
        outputs: Names of what it returns.
        dynamic: Axes of the input that may be of any length, by name.
        labels: Names of the classes, kept in the metadata as a JSON list.
        about: Kept in the metadata as JSON.

    Raises:
        ConfigError: The extra is not installed, or ONNX cannot express the module.
    """
    onnx_runtime()
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in dynamic.items()}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # the exporter warns about its own dependencies
        try:
            torch.onnx.export(
                network,
                (images,),
                path,
                input_names=["images"],
                output_names=list(outputs),
                dynamic_shapes=(axes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter's errors share no class
            cause = error.__cause__ or error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise ConfigError(f"ONNX cannot express this network: {reason}") from error
        onnx = importlib.import_module("onnx")
        program = onnx.load(str(path))
    texts = {"labels": list(labels), ABOUT: dict(about or {})}
    kept = {name: json.dumps(value, ensure_ascii=False) for name, value in texts.items() if value}
    onnx.helper.set_model_props(program, kept)
    data: bytes = program.SerializeToString()
    return data


def run_onnx(data: bytes, images: Tensor, outputs: Sequence[str]) -> list[np.ndarray]:
    """What ONNX Runtime computes of a file.

    Raises:
        ConfigError: The extra is not installed.
    """
    found: list[np.ndarray] = onnx_runtime()(data).run(list(outputs), {"images": images.numpy()})
    return found


def onnx_runtime() -> type:
    """The class of ONNX Runtime's sessions.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        for name in ("onnx", "onnxscript"):
            importlib.import_module(name)
        session: type = importlib.import_module("onnxruntime").InferenceSession
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs {error.name}; install it with pip install 'recuse[onnx]'"
        ) from error
    return session


__all__ = ["ABOUT", "TOLERANCE", "export_onnx", "onnx_program", "onnx_runtime", "run_onnx"]
