"""Linear bound propagation by auto_LiRPA, where that library is installed.

Tighter than interval bounds, and slower. Install it beside recuse (it is not a dependency):
``pip install git+https://github.com/Verified-Intelligence/auto_LiRPA``.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Mask
from recuse.certify.decision import check_radii
from recuse.certify.ibp import ball, require_pixels
from recuse.errors import CertificationError, ConfigError
from recuse.random import SampleNoise
from recuse.results import Certificate

Method = Literal["IBP", "CROWN-IBP", "CROWN", "CROWN-Optimized"]


@dataclass(frozen=True)
class AutoLirpa:
    """Proves with auto_LiRPA that a network keeps its class on a ball; deterministic.

    Attributes:
        norm: ``"linf"`` (balls are cut to [0, 1]) or ``"l2"`` (balls are not cut).
        method: Name of the bound in auto_LiRPA, loose and fast to tight and slow.
        batch_size: Images bounded together; linear bounds need much memory.

    Raises:
        ConfigError: An unknown norm.
    """

    norm: str = "linf"
    method: Method = "CROWN-IBP"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ConfigError(f"norm {self.norm!r} is unknown; write 'linf' or 'l2'")

    @torch.no_grad()
    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> Certificate:
        """Certify a batch at several radii.

        Args:
            model: Classifier in eval mode.
            x: Inputs in [0, 1].
            radii: Ascending radii in pixel units.
            noise: Unused.

        Raises:
            ConfigError: auto_LiRPA is not installed.
            CertificationError: The model is in training mode or returns NaN.
        """
        radii = check_radii(radii)
        if self.norm == "linf":
            require_pixels(x)
        library = load_library()
        labels, classes = _predict(model, x)
        bounded = library.BoundedModule(model, x[:1], device=x.device)
        proven = []
        for r in radii:
            parts = zip(
                torch.split(x, self.batch_size), torch.split(labels, self.batch_size), strict=True
            )
            proven.append(torch.cat([self._prove(library, bounded, *p, r, classes) for p in parts]))
        return Certificate(
            radii=radii,
            certified=torch.stack(proven, dim=1).cummin(dim=1).values,
            attainable=(True,) * len(radii),
            prediction=labels,
            samples=torch.zeros(len(x), dtype=torch.int64, device=x.device),
        )

    def _prove(
        self, library: Any, bounded: Any, x: Images, labels: Labels, radius: float, classes: int
    ) -> Mask:
        perturbation = _perturbation(library, self.norm, x, radius)
        # This method ascends its bounds, which takes gradients.
        with torch.set_grad_enabled(self.method == "CROWN-Optimized"):
            lower, _ = bounded.compute_bounds(
                x=(library.BoundedTensor(x, perturbation),),
                C=differences(labels, classes, x.dtype),
                method=self.method,
                bound_upper=False,
            )
        proven: Mask = (lower.detach() > 0).all(dim=1)
        return proven


def differences(labels: Labels, classes: int, dtype: torch.dtype) -> Tensor:
    """Rows that turn logits into ``f_label - f_c`` for every other class c.

    Returns:
        Shape ``batch (classes - 1) classes``.
    """
    identity = torch.eye(classes, dtype=dtype, device=labels.device)
    every = identity[labels][:, None, :] - identity[None]
    others = ~torch.nn.functional.one_hot(labels, classes).bool()
    return every[others].view(len(labels), classes - 1, classes)


def load_library() -> Any:
    """The auto_LiRPA module.

    Raises:
        ConfigError: It is not installed, or does not fit the installed PyTorch.
    """
    try:
        library = importlib.import_module("auto_LiRPA")
        importlib.import_module("auto_LiRPA.perturbations")
    except ImportError as error:
        raise ConfigError(
            f"auto_LiRPA cannot be imported ({error}); install it with pip install "
            "git+https://github.com/Verified-Intelligence/auto_LiRPA, or use interval bounds"
        ) from error
    return library


def _perturbation(library: Any, norm: str, x: Images, radius: float) -> Any:
    if norm == "l2":
        return library.PerturbationLpNorm(norm=2, eps=radius)
    box = ball(x, radius)
    return library.PerturbationLpNorm(norm=float("inf"), x_L=box.lower, x_U=box.upper)


def _predict(model: nn.Module, x: Images) -> tuple[Labels, int]:
    if any(module.training for module in model.modules()):
        raise CertificationError(
            "the model is in training mode, where its answers depend on the batch; call "
            "model.eval() before certifying"
        )
    logits = model(x)
    if bool(logits.isnan().any()):
        raise CertificationError(
            "the model returned NaN; bounds of such a model prove nothing, so check its weights"
        )
    return logits.argmax(dim=1), int(logits.shape[1])


__all__ = ["AutoLirpa", "differences", "load_library"]
