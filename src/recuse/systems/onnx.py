"""A whole system as one ONNX file, where none of its selectors searches (extra ``onnx``)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits, PerSample
from recuse.composition import Stage
from recuse.errors import ConfigError, DataError
from recuse.integrations.onnx import TOLERANCE, onnx_program, run_onnx
from recuse.models.folding import fold_batchnorm
from recuse.protocols import Selector
from recuse.random import generator
from recuse.records.store import write_atomically
from recuse.selectors import (
    Always,
    EntropyResponse,
    SelectionNetwork,
    SoftmaxResponse,
    acceptance,
    entropy,
    max_softmax,
    selected,
)
from recuse.selectors.robustness import answered
from recuse.systems.inputs import InputForm
from recuse.systems.pillow import Decoded
from recuse.systems.system import System
from recuse.systems.typed import write_selector

OUTPUTS = ("label", "stage", "selected", "score")
Pixels = Literal["auto", "float", "uint8"]
_PROBES = 16
# The scores of selectors that ask nothing but networks, from logits and images.
_SCORES: dict[type, Callable[[Any, Logits, Images], PerSample]] = {
    Always: lambda selector, logits, x: torch.ones_like(logits[:, 0]),
    SoftmaxResponse: lambda selector, logits, x: max_softmax(logits),
    EntropyResponse: lambda selector, logits, x: -entropy(logits),
    SelectionNetwork: lambda selector, logits, x: acceptance(selector.net(x)),
}


class Answering(nn.Module):
    """A cascade as one function of tensors: every network runs on every image.

    Args:
        system: Whose selectors ask nothing but networks.
        pixels: ``float``: images in [0, 1] of the networks' size, channels first. ``uint8``:
            decoded images of any one size, channels last, resized as the system does it.

    Raises:
        ConfigError: A selector that searches.
    """

    def __init__(self, system: System, pixels: Literal["float", "uint8"]) -> None:
        super().__init__()
        cascade = system.cascade
        for stage in cascade.stages:
            _require_no_search(stage)
        self.read = Decoded(system.form) if pixels == "uint8" else nn.Identity()
        self.selectors = [stage.selector for stage in cascade.stages]
        # Selectors are no modules: what they ask has to be known here too.
        self.judges = nn.ModuleList(
            s.net for s in self.selectors if isinstance(s, SelectionNetwork)
        )
        self.networks = nn.ModuleList(fold_batchnorm(m).module.cpu() for m in cascade.models)
        self.core = cascade.core is not None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class (-1: nobody answers), who answers, whether a stage does, and its score."""
        x = self.read(images)
        # What is no image is answered by nobody: a NaN fails both comparisons.
        left = ((x >= 0) & (x <= 1)).flatten(1).all(1)
        label = torch.full_like(left, -1, dtype=torch.int64)
        stage = torch.full_like(label, len(self.selectors))
        score = torch.full_like(label, float("nan"), dtype=torch.float32)
        for index, selector in enumerate(self.selectors):
            logits = self.networks[index](x)
            scores = _SCORES[type(selector)](selector, logits, x)
            kept = left & selected(scores, selector.threshold) & answered(logits)
            label = torch.where(kept, logits.argmax(1), label)
            stage = torch.where(kept, index, stage)
            score = torch.where(kept, scores, score)
            left = left & ~kept
        chosen = stage < len(self.selectors)
        if self.core:
            logits = self.networks[-1](x)
            label = torch.where(left & answered(logits), logits.argmax(1), label)
        return label, stage, chosen, score


def export_system(system: System, path: Path, *, pixels: Pixels = "auto") -> str:
    """Write a system as one ONNX file with the outputs ``label, stage, selected, score``.

    ``label`` is -1 where nobody answers, ``stage`` counts from 0 and is the number of stages for
    the core or nobody, ``score`` is NaN where no stage selects. Any batch size.

    Args:
        system: Whose selectors search nothing.
        path: File to write; it appears only if it answered as the system does.
        pixels: What the input holds, see :class:`Answering`; ``auto`` takes decoded images where
            the system resizes.

    Returns:
        What the input is, in words.

    Raises:
        ConfigError: A selector that searches, the extra is not installed, or ONNX cannot express
            a network.
        DataError: The file would answer differently.
    """
    taken = ("float" if system.form.resize is None else "uint8") if pixels == "auto" else pixels
    answering = Answering(system, taken).eval()
    example, axes = _example(system.form, taken)
    data = onnx_program(answering, example, OUTPUTS, axes, system.labels, _about(system))
    _require_equal(system, data, example)
    write_atomically(path, data)
    return _words(system.form, taken)


def searches(selector: Selector) -> bool:
    """Whether a selector asks more than its networks: a search, a proof, or random votes."""
    return type(selector) not in _SCORES


def _require_no_search(stage: Stage) -> None:
    if searches(stage.selector):
        text = write_selector(stage.selector).partition("(")[0]
        raise ConfigError(
            f"stage {stage.name!r} stands behind {text!r}, which searches or proves around each "
            "image and needs gradients or bounds that ONNX does not carry; export its networks one "
            f"by one (--member {stage.name}), or serve the system (recuse serve)"
        )


def _example(form: InputForm, pixels: str) -> tuple[Tensor, dict[int, str]]:
    """Random images of the networks' size, and the axes that may have any length."""
    channels, height, width = form.shape
    draw = generator("onnx")
    if pixels == "float":
        return torch.rand((_PROBES, *form.shape), generator=draw), {0: "batch"}
    axes = {0: "batch"} | ({1: "height", 2: "width"} if form.resize else {})
    shape = (_PROBES, height, width, channels)
    return torch.randint(256, shape, generator=draw, dtype=torch.uint8), axes


def _require_equal(system: System, data: bytes, images: Tensor) -> None:
    """Refuse a file that answers otherwise than the system; a near tie may fall either way."""
    label, stage, _, score = (torch.from_numpy(v) for v in run_onnx(data, images, OUTPUTS))
    x = system.form.batch(images)
    found = system.cascade.traced(x.to(system.device)).prediction
    same = (label == found.label.cpu()) & (stage == found.stage.cpu())
    wanted = found.score.cpu().float()
    near = score.isclose(wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if not bool((same & near).all()):
        raise DataError(
            f"the ONNX file would answer {int((~(same & near)).sum())} of {len(images)} random "
            "images otherwise than the system; not written"
        )


def _about(system: System) -> dict[str, Any]:
    cascade = system.cascade
    return {
        "system": system.name,
        "budget": str(cascade.budget),
        "stages": [
            {"name": s.name, "selector": write_selector(s.selector)} for s in cascade.stages
        ],
        "core": None if cascade.core is None else cascade.core.name,
        "guarantee": [guarantee.value for guarantee in cascade.guarantee],
    }


def _words(form: InputForm, pixels: str) -> str:
    channels, height, width = form.shape
    if pixels == "float":
        return f"float32 [batch, {channels}, {height}, {width}] in [0, 1]"
    size = "height, width" if form.resize else f"{height}, {width}"
    return f"uint8 [batch, {size}, {channels}], decoded images" + (
        ", resized inside" * (form.resize is not None)
    )


__all__ = ["OUTPUTS", "Answering", "Pixels", "export_system", "searches"]
