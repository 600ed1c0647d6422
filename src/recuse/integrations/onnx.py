"""Networks as ONNX files, for serving without PyTorch (extra ``onnx``).

A classifier or core can be exported. A selector that attacks needs gradients, which ONNX does not
carry: run it in PyTorch.
"""

import importlib
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.models.folding import fold_batchnorm
from recuse.random import generator
from recuse.records.store import write_atomically

TOLERANCE = 1e-3


def export_onnx(model: nn.Module, shape: tuple[int, ...], path: Path) -> float:
    """Write a network as one ONNX file and check it against the original.

    Input ``images``, output ``logits``, any batch size. Batch norm is folded first.

    Args:
        model: Any network; it is left as it was.
        shape: Shape of one input, without the batch.
        path: File to write; it appears only if it passed the check.

    Returns:
        Largest difference of the logits on random images, as ONNX Runtime computes them.

    Raises:
        ConfigError: The extra is not installed, or ONNX cannot express the network.
        DataError: The exported network answers differently.
    """
    session_of = onnx_runtime()
    network = fold_batchnorm(model).module.cpu()
    images = torch.rand((4, *shape), generator=generator("onnx"))
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        _export(network, images, draft)
        (logits,) = session_of(str(draft)).run(["logits"], {"images": images.numpy()})
        expected = network(images)
        error = float((torch.from_numpy(logits) - expected).abs().max())
        if not error <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise DataError(f"the ONNX file would answer differently by {error:.3g}; not written")
        write_atomically(path, draft.read_bytes())
    return error


def _export(network: nn.Module, images: torch.Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own dependencies
            torch.onnx.export(
                network,
                (images,),
                path,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: batch},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors share no class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"ONNX cannot express this network: {reason}") from error


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
