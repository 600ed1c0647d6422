"""Mixing instead of selecting: a robust and a standard model averaged into one classifier.

The baseline that compositions must beat: no abstention, one differentiable network, judged by
the same adversary. A mixture has a card like any network, in which both members' cards stand.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from recuse.arrays import Images, Logits
from recuse.class_names import class_order
from recuse.errors import ConfigError
from recuse.models.cards import Card, TrainedOn
from recuse.models.checkpoint import weights_sha256
from recuse.models.class_order import Reordered, in_own_order
from recuse.models.normalize import normalized

_EPS = 1e-12
# Of many classes only the likeliest are looked at for mean and variance.
_LARGEST = 250
_VARIANCE_FLOOR = 1e-8
_POWER_FLOOR = 1e-12


def _check_weight(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"mixture weight {alpha} is not in [0, 1]; 0.5 weighs both models alike")


def _check_classes(robust: int, standard: int) -> None:
    if robust != standard:
        raise ConfigError(
            f"the robust model knows {robust} classes but the standard one {standard}; only "
            "models of the same classes can be mixed"
        )


class LogitMixture(nn.Module):
    """Logits ``alpha * robust + (1 - alpha) * standard``.

    Args:
        robust: Robust classifier.
        standard: Accurate classifier.
        alpha: Weight of the robust one.
    """

    def __init__(self, robust: nn.Module, standard: nn.Module, *, alpha: float) -> None:
        super().__init__()
        _check_weight(alpha)
        self.robust, self.standard, self.alpha = robust, standard, alpha

    def forward(self, x: Images) -> Logits:
        """Mixed logits."""
        robust, standard = self.robust(x), self.standard(x)
        _check_classes(robust.shape[1], standard.shape[1])
        mixed: Tensor = self.alpha * robust + (1 - self.alpha) * standard
        return mixed


class MixedNutsMap(nn.Module):
    """Logits with margins that grow with how sure the network is.

    Each row is brought to mean 0 and variance 1 over its classes (the unbiased variance, of the
    250 largest where there are more), shifted, clamped below by a GELU, raised to a power with
    its sign kept, and scaled.

    Args:
        scale: Factor on the result.
        shift: Added before the GELU; negative ones keep only what stands out.
        power: Exponent of the magnitude.

    Raises:
        ConfigError: A scale or power that is not positive.
    """

    def __init__(self, *, scale: float, shift: float, power: float) -> None:
        super().__init__()
        if scale <= 0 or power <= 0:
            raise ConfigError(f"the map needs a positive scale and power, got {scale}, {power}")
        self.scale, self.shift, self.power = scale, shift, power

    def forward(self, logits: Logits) -> Logits:
        """Mapped logits, ``[batch, classes]``."""
        largest = logits.topk(min(_LARGEST, logits.shape[1]), dim=1).values
        mean, variance = largest.mean(1, keepdim=True), largest.var(1, keepdim=True)
        normal = (logits - mean) / (variance + _VARIANCE_FLOOR).sqrt()
        clamped = functional.gelu(normal + self.shift)
        mapped: Tensor = clamped.sign() * clamped.abs().clamp_min(_POWER_FLOOR).pow(self.power)
        return self.scale * mapped


class ProbabilityMixture(nn.Module):
    """Logits ``log(alpha * p_robust + (1 - alpha) * p_standard)``.

    Args:
        robust: Robust classifier.
        standard: Accurate classifier.
        alpha: Weight of the robust one; above one half a sure robust model outvotes the other.
        shaping: Applied to the robust logits before their softmax; none if absent.
        one_hot: Mix in the standard model's bare answer instead of its probabilities.

    Source: Bai, Anderson, Kim, Sojoudi, adaptive smoothing, 2023.
    """

    def __init__(
        self,
        robust: nn.Module,
        standard: nn.Module,
        *,
        alpha: float,
        shaping: nn.Module | None = None,
        one_hot: bool = False,
    ) -> None:
        super().__init__()
        _check_weight(alpha)
        self.robust, self.standard, self.alpha = robust, standard, alpha
        self.shaping = nn.Identity() if shaping is None else shaping
        self.one_hot = one_hot

    def forward(self, x: Images) -> Logits:
        """Log-probabilities of the mixture."""
        robust, standard = self.robust(x), self.standard(x)
        _check_classes(robust.shape[1], standard.shape[1])
        answer = functional.one_hot(standard.argmax(1), standard.shape[1]).to(standard.dtype)
        other = answer if self.one_hot else standard.softmax(1)
        p = self.alpha * self.shaping(robust).softmax(1) + (1 - self.alpha) * other
        return torch.log(p.clamp_min(_EPS))


@dataclass(frozen=True)
class Mixture:
    """The config of a mixture, an architecture like any other: it names both members.

    Attributes:
        robust: Card of the robust network, with the digest of its weights.
        standard: Card of the accurate one, likewise; its outputs are put into the other's order.
        alpha: Weight of the robust one's probabilities.
        shaping: Scale, shift and power of the map of the robust logits; empty for none.
        one_hot: Mix in the standard network's bare answer.

    Raises:
        ConfigError: A weight or a map that cannot be, or networks of other inputs or classes.
    """

    robust: Card
    standard: Card
    alpha: float
    shaping: tuple[float, ...] = ()
    one_hot: bool = False

    def __post_init__(self) -> None:
        _check_weight(self.alpha)
        first, second = (
            replace(card.preprocessing, mean=(), std=()) for card in (self.robust, self.standard)
        )
        if first != second:
            raise ConfigError(
                f"{self.robust.name!r} takes inputs of {first.shape} but {self.standard.name!r} of "
                f"{second.shape}; a mixture hands one image to both"
            )
        _check_classes(self.classes, self.standard.architecture.classes)
        if len(self.shaping) not in (0, 3):
            raise ConfigError(f"a map has a scale, a shift and a power, not {self.shaping}")
        self._map()

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.robust.architecture.classes

    @property
    def dropout(self) -> float:
        """None of its own: mixtures are not trained."""
        return 0.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return self.robust.preprocessing.shape

    def build(self) -> nn.Module:
        """The mixture with fresh weights, both normalisations inside."""
        return self.of(self.robust.build(), self.standard.build())

    def of(self, robust: nn.Module, standard: nn.Module) -> "ProbabilityMixture":
        """The mixture of these networks, as their cards build them."""
        own, wanted = self.standard.label_names, self.robust.label_names
        order = (
            class_order(own, wanted, model=repr(self.standard.name), data=repr(self.robust.name))
            if own and wanted
            else None
        )
        return ProbabilityMixture(
            robust,
            standard if order is None else Reordered(standard, order),
            alpha=self.alpha,
            shaping=self._map(),
            one_hot=self.one_hot,
        )

    def _map(self) -> MixedNutsMap | None:
        if not self.shaping:
            return None
        scale, shift, power = self.shaping
        return MixedNutsMap(scale=scale, shift=shift, power=power)


def mix(
    name: str,
    robust: tuple[nn.Module, Card],
    standard: tuple[nn.Module, Card],
    *,
    alpha: float,
    shaping: tuple[float, ...] = (),
    one_hot: bool = False,
) -> tuple[nn.Module, Card]:
    """Two networks with their cards as one network with a card, which can be stored.

    Args:
        name: Of the mixture.
        robust: Robust network; the mixture's classes are in its own order.
        standard: Accurate network.
        alpha: Weight of the robust one.
        shaping: As for :class:`Mixture`.
        one_hot: Likewise.

    Raises:
        ConfigError: As for :class:`Mixture`.
        DataError: Networks whose classes have other names.
    """
    (first, own), (second, other) = in_own_order(*robust), in_own_order(*standard)
    config = Mixture(
        replace(own.with_sha256(weights_sha256(first)), trained_on=None),
        replace(other.with_sha256(weights_sha256(second)), trained_on=None),
        alpha=alpha,
        shaping=shaping,
        one_hot=one_hot,
    )
    network = normalized(config.of(first, second), (), ()).eval()
    card = Card(
        name,
        config,
        replace(own.preprocessing, mean=(), std=()),
        origin=f"mixture of {own.name} and {other.name}",
        sha256=weights_sha256(network),
        label_names=own.label_names or other.label_names,
        licence="; ".join(dict.fromkeys(filter(None, (own.licence, other.licence)))),
        trained_on=TrainedOn.together(own.trained_on, other.trained_on),
    )
    return network, card


@dataclass(frozen=True, eq=False)
class Mixed:
    """What a mixture is made of, each network with the classes in the mixture's order.

    Attributes:
        mapped: The robust network behind the map of its logits; the network itself without one.
        standard: The accurate one.
        mixture: Of the two.
    """

    mapped: nn.Module
    standard: nn.Module
    mixture: ProbabilityMixture


def mixed(model: nn.Module) -> Mixed | None:
    """The members of a mixture, however it is wrapped; None of other networks."""
    if isinstance(model, Reordered):
        inner, order = mixed(model.network), model.order.tolist()
        return inner and Mixed(
            Reordered(inner.mapped, order), Reordered(inner.standard, order), inner.mixture
        )
    if isinstance(model, nn.Sequential) and len(model) == 1:
        return mixed(model[0])
    if not isinstance(model, ProbabilityMixture):
        return None
    plain = isinstance(model.shaping, nn.Identity)
    mapped = model.robust if plain else nn.Sequential(model.robust, model.shaping)
    return Mixed(mapped.train(model.training), model.standard, model)


__all__ = [
    "LogitMixture",
    "Mixed",
    "MixedNutsMap",
    "Mixture",
    "ProbabilityMixture",
    "mix",
    "mixed",
]
