"""What an attack on a composition as a whole left of it."""

from recuse.analysis.metrics import natural_accuracy, rate
from recuse.analysis.verdicts import verdicts
from recuse.records.schema import Record


def attacked_rates(record: Record) -> dict[str, str | float]:
    """The rates of one attack on a composition, as the run folder keeps them.

    Args:
        record: Of :func:`recuse.evaluation.attack_cascade.attack_cascade`.

    Returns:
        Name, eps, number of images, natural and attacked robust accuracy, and the share of
        images that the core answers.
    """
    judged, eps = verdicts(record), record.meta.radii[0]
    return {
        "name": record.meta.model,
        "eps": eps,
        "images": judged.samples,
        "natural": natural_accuracy(judged.accurate()),
        "attacked": rate(judged.robust(eps)),
        "core_share": rate(~judged.selected()),
    }


__all__ = ["attacked_rates"]
