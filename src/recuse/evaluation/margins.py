"""The worst probabilities within each judged ball, as columns of a record."""

from typing import Any

from torch import nn

from recuse.arrays import Images, Logits
from recuse.attacks import Margins, ProbabilityMargin
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.records.schema import radius_column
from recuse.threat import Threat


def margin_columns(
    model: nn.Module,
    x: Images,
    logits: Logits,
    batch: Split,
    *,
    margins: Margins | None,
    threats: tuple[Threat, ...],
    seed: int,
) -> dict[str, Any]:
    """Columns of what :class:`recuse.attacks.Margins` finds; none where it is not asked for.

    Args:
        model: The classifier.
        x: Inputs, where it computes.
        logits: Its logits there.
        batch: The inputs with their labels and ids.
        margins: The searches.
        threats: Balls of one norm, radii ascending.
        seed: Of the random starts, together with each input's id.
    """
    if margins is None:
        return {}
    threats = tuple(t for t in threats if not margins.radii or t.eps in margins.radii)
    labels = batch.labels.to(x.device)
    noise = SampleNoise(seed, batch.ids, "margins")
    found, passes = margins(model, x, labels, threats, noise=noise, clean_logits=logits)
    at_x = ProbabilityMargin()(logits.double(), labels)
    columns: dict[str, Any] = {
        "margin": (-at_x).cpu().numpy(),
        "margin_passes": passes.cpu().numpy(),
    }
    for threat, worst in zip(threats, found, strict=True):
        for kind, value in (
            ("worst_margin", worst.margin),
            ("worst_confidence", worst.confidence),
            ("least_confidence", worst.least),
        ):
            known = [None if v != v else v for v in value.tolist()]
            columns[radius_column(kind, threat.eps)] = known
    return columns


__all__ = ["margin_columns"]
