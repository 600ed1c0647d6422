"""Selection networks: a small net of its own that says whether the classifier will be right.

A selection network is a classifier of two classes, reject and accept, trained on labels that
say where the robust classifier is certified (or attacked) right: see :func:`acceptance_split`.
Trained by interval bounds (:class:`recuse.training.ibp.Ibp`) its decision can be certified
together with the classifier's.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, Mask, PerSample
from recuse.attacks.verify import evaluation_mode
from recuse.certify.ibp import Margins, require_linf
from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.threat import Threat

REJECT, ACCEPT = 0, 1
_OUTPUTS = ("reject", "accept")


def acceptance(logits: Logits) -> PerSample:
    """Logit of accept above that of reject.

    Raises:
        ConfigError: Not two outputs per input.
    """
    if logits.dim() != 2 or logits.shape[1] != len(_OUTPUTS):
        raise ConfigError(
            f"a selection network has two outputs, reject and accept, but this one returns "
            f"{tuple(logits.shape[1:])}; build its architecture with classes=2"
        )
    return logits[:, ACCEPT] - logits[:, REJECT]


@dataclass(frozen=True, eq=False)
class SelectionNetwork:
    """Selects where a net of its own prefers accept to reject by at least ``threshold``.

    Attributes:
        net: Maps images to two logits (reject, accept), normalisation inside.
        threshold: On the difference of the two logits.

    Source: Mueller, Balunovic, Vechev, "Certify or Predict", ICLR 2021 (ACE).
    """

    net: nn.Module
    threshold: float = 0.0

    @property
    def guarantee(self) -> Guarantee:
        """None of its own: an attacker can move the net's decision and the classifier's apart."""
        return Guarantee.NONE

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Accept minus reject at ``x``; the classifier plays no part."""
        with evaluation_mode(self.net):
            return acceptance(self.net(x))

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """The score above the threshold."""
        with evaluation_mode(self.net):
            return acceptance(self.net(x)) - self.threshold


@dataclass(frozen=True)
class SelectionBounds:
    """Where a selection network's score can be, over a ball around each input.

    Attributes:
        lower: The score is nowhere below; at or above the threshold it surely selects.
        upper: The score is nowhere above; below the threshold it surely abstains.
    """

    lower: PerSample
    upper: PerSample


@torch.no_grad()
def selection_bounds(net: nn.Module, x: Images, threat: Threat) -> SelectionBounds:
    """Interval bounds of a selection network's score over a Linf ball.

    Together with a certificate of the classifier on the same ball this certifies the pair: the
    answer is selected, and the same, wherever the attacker moves ``x``.

    Raises:
        CertificationError: A norm other than Linf, or a layer that has no bounds.
    """
    require_linf(threat)
    with evaluation_mode(net):
        bounds = Margins.of(net)
        accept = torch.full((len(x),), ACCEPT, device=x.device)
        reject = torch.full_like(accept, REJECT)
        lower = bounds.bound(x, accept, threat.eps)[:, REJECT]
        upper = -bounds.bound(x, reject, threat.eps)[:, ACCEPT]
    return SelectionBounds(lower, upper)


def acceptance_split(split: Split, right: Mask) -> Split:
    """The training data of a selection network: the images of ``split``, labelled by ``right``.

    Args:
        split: Images.
        right: Where the classifier is right over its whole ball, certified or attacked.

    Raises:
        ConfigError: All inputs have the same label, so there is nothing to learn.
    """
    share = float(right.float().mean())
    if share in (0.0, 1.0):
        raise ConfigError(
            f"the classifier is right on {share:.0%} of {split.name}: a selection network has "
            "nothing to tell apart; use a smaller radius or another classifier"
        )
    labels = torch.where(right, ACCEPT, REJECT).to(split.labels.dtype)
    return replace(split, labels=labels, label_names=_OUTPUTS)
