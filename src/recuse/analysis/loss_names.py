"""What tables and figures call the losses, and in which order."""

LOSS_ORDER = (
    *("standard", "core", "AT", "TRADES", "MART", "GAIRAT", "SCORE"),
    *("ERA", "DGA", "Gaussian", "MACER", "CRA"),
)
LOSS_NAMES = {
    "standard": "standard",
    "std": "standard",
    "adversarial": "AT",
    "at": "AT",
    "trades": "TRADES",
    "mart": "MART",
    "gairat": "GAIRAT",
    "score": "SCORE",
    "era": "ERA",
    "dga": "DGA",
    "gaussian": "Gaussian",
    "gaussaug": "Gaussian",
    "macer": "MACER",
    "cra": "CRA",
    "ace_colt": "ACE-COLT",
    "ace_ibp": "ACE-IBP",
    "robustbench": "RobustBench",
    "wstd": "standard",
}


def loss_name(loss: str) -> str:
    """A loss as figures and tables call it.

    >>> loss_name("era"), loss_name("my_loss")
    ('ERA', 'my_loss')
    """
    return LOSS_NAMES.get(loss.lower(), loss)


def loss_rank(name: str) -> int:
    """Where a loss comes in legends and tables: as in :data:`LOSS_ORDER`, unknown ones last."""
    return LOSS_ORDER.index(name) if name in LOSS_ORDER else len(LOSS_ORDER)


__all__ = ["LOSS_NAMES", "LOSS_ORDER", "loss_name", "loss_rank"]
