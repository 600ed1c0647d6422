"""ONNX files as networks that can be attacked: each node a layer of PyTorch (extra ``onnx``).

ONNX Runtime gives no gradients, so that the graph is built anew; that both answer the same is
checked each time a file is read.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.integrations.onnx import onnx_runtime
from recuse.integrations.onnx_graph import OnnxGraph
from recuse.integrations.onnx_operators import OPERATORS
from recuse.models.normalize import normalized
from recuse.random import generator
from recuse.values import Call, Number, parse_value

TOLERANCE = 1e-4


def load_onnx(text: str) -> tuple[nn.Module, None]:
    """A network from an ONNX file; it has no card.

    Args:
        text: ``net.onnx`` for a file that subtracts a mean and divides by a standard deviation
            itself; ``net.onnx(mean=[0.5], std=[0.2])`` for another, with empty lists for one that
            takes images in [0, 1] as they are.

    Returns:
        The network in eval mode on the CPU: images in [0, 1] to its output, or to a dict of all
        where there are several.

    Raises:
        ConfigError: The extra is not installed, the normalisation is not known, or a node that is
            not known here.
        DataError: No such file, a damaged one, or one that ONNX Runtime answers otherwise.
    """
    file, bracket, _ = text.partition("(")
    given = _given(text[len(file) :], text) if bracket else None
    network, normalises = _read(Path(file))
    if given is None and not normalises:
        raise ConfigError(
            f"onnx:{file} does not say how its inputs are normalised: write "
            f'"onnx:{file}(mean=[...], std=[...])" in units of [0, 1], with empty lists where it '
            "takes images in [0, 1] as they are"
        )
    if given is not None and given[0] and normalises:
        raise ConfigError(f"onnx:{file} normalises its inputs itself; leave out mean and std")
    return normalized(network, *(given or ((), ()))).eval(), None


def _given(settings: str, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    written = parse_value(f"onnx{settings}")
    found = dict(written.settings) if isinstance(written, Call) else {}
    lists = [found.pop(name, None) for name in ("mean", "std")]
    numbers = [
        tuple(float(n.value) for n in entry if isinstance(n, Number))
        for entry in lists
        if isinstance(entry, tuple)
    ]
    if found or len(numbers) < len(lists):
        raise ConfigError(f"onnx:{text} takes mean=[...] and std=[...], both, and nothing else")
    return numbers[0], numbers[1]


def _read(path: Path) -> tuple[nn.Module, bool]:
    """The network of a file as it is, and whether it normalises images in [0, 1]."""
    session_of = onnx_runtime()
    onnx: Any = importlib.import_module("onnx")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
        onnx.checker.check_model(model)
        session = session_of(str(path))
    except Exception as error:  # the libraries' errors share no class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is truncated or not an ONNX file ({reason}); get it again"
        ) from error
    graph = OnnxGraph(onnx, model.graph, path)
    network = graph.module(OPERATORS)
    _compare(network, session, graph.input_shape, path)
    return network, graph.normalises()


def _compare(network: nn.Module, session: Any, shape: list[int], path: Path) -> None:
    """Both must answer the same on random images."""
    images = torch.rand(shape, generator=generator("onnx-network"))
    (given,) = session.get_inputs()
    expected = session.run(None, {given.name: images.numpy()})
    with torch.no_grad():
        outputs = network(images)
    found = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    for ours, theirs in zip(found, map(torch.from_numpy, expected), strict=True):
        error = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
        if not error <= TOLERANCE * max(1.0, float(theirs.abs().max())):
            raise DataError(
                f"{path} is read as a network that answers otherwise than ONNX Runtime (by "
                f"{error:.3g}); give the network as module:function"
            )


__all__ = ["load_onnx"]
