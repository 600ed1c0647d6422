"""What a selector may be made of, as literal tables: what can be typed where a selector is."""

from recuse.attacks import ATTACKS, CRITERIA, LOSSES
from recuse.certify import CERTIFIERS
from recuse.protocols import AscentLoss, Attack, Certifier, Criterion, Selector
from recuse.selectors import SELECTORS
from recuse.vocabulary import Family, Vocabulary

SELECTION = Vocabulary(
    (
        Family("attack", ATTACKS, Attack),
        Family("loss", LOSSES, AscentLoss),
        Family("criterion", CRITERIA, Criterion),
        Family("selector", SELECTORS, Selector),
        Family("certifier", CERTIFIERS, Certifier),
    )
)

__all__ = ["SELECTION"]
