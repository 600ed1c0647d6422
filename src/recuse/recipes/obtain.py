"""The networks of a run: where their weights come from, and what their cards say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.data import Split, Splits
from recuse.errors import ConfigError
from recuse.evaluation.rejection import METHOD as REJECTION
from recuse.integrations.sources import load_model
from recuse.models.architectures import build_seeded
from recuse.models.cards import Card, TrainedOn, card_for
from recuse.models.checkpoint import load_checkpoint, save_checkpoint
from recuse.models.new_head import with_new_head
from recuse.models.normalize import normalized
from recuse.progress import Progress
from recuse.random import stable_seed
from recuse.recipes.config import Earlier, Fresh, ModelPlan, NewHead, RunConfig
from recuse.recipes.environment import processor
from recuse.recipes.run_location import RunLocation
from recuse.records.layout import TRAINING
from recuse.records.schema import Record
from recuse.training import Standard, TrainConfig, TrainResult, fit


def obtain(
    plan: ModelPlan, splits: Splits, place: RunLocation, progress: Progress
) -> tuple[nn.Module, Card]:
    """The plan's model: from its checkpoint if it is finished, else trained now."""
    path = place.checkpoint(plan.name)
    if path.is_file():
        return load_checkpoint(path)
    model, card = starting_point(plan, splits, place)
    if plan.train is not None:
        trained = fit(
            model.to(place.device),
            splits.train,
            splits.validation,
            plan.train,
            place.out / TRAINING / plan.name,
            name=plan.name,
            progress=progress,
        )
        model, card = trained.model, with_cost(card, trained, plan.train, place.device)
    save_checkpoint(path, model, card, half=plan.half)
    return load_checkpoint(path)


def starting_point(plan: ModelPlan, splits: Splits, place: RunLocation) -> tuple[nn.Module, Card]:
    """The model that training starts from, with the card its checkpoint will carry."""
    start = plan.start
    if isinstance(start, Fresh):
        # Models of one architecture and seed start from the same weights, whatever their name.
        seed = stable_seed(plan.seed, "weights")
        model = normalized(build_seeded(start.architecture, seed), start.mean, start.std)
        card = card_for(
            plan.name,
            start.architecture,
            mean=start.mean,
            std=start.std,
            label_names=splits.train.label_names,
        )
    elif isinstance(start, Earlier):
        model, card = load_checkpoint(place.checkpoint(start.name))
    else:
        model, own = load_model(start.ref, data_root=place.data_root)
        if own is None:
            raise ConfigError(
                f"{start.ref!r} comes without a card, so that a run cannot store it; import it as "
                "a checkpoint first (recuse models import)"
            )
        card = own
        if isinstance(start, NewHead):
            seed = stable_seed(plan.seed, "head")
            model, card = with_new_head(model, card, splits.train.classes, seed)
    if plan.train is None:
        return model, replace(card, name=plan.name)
    return model, describe(card, plan.name, plan.train, splits.train)


def with_cost(card: Card, trained: TrainResult, how: TrainConfig, device: str) -> Card:
    """The card with what training took: time, processor, precision, passes of the network."""
    took = f"{trained.seconds:.0f} s on {processor(device)}, {how.precision}"
    if trained.passes is not None:
        epochs = f"{how.epochs} epoch" + "s" * (how.epochs > 1)
        took += f", {epochs} of {trained.passes:.4g} passes an image"
    return replace(card, notes={**card.notes, "training took": took})


def keep_rates(
    config: RunConfig, plan: ModelPlan, records: Sequence[Record], place: RunLocation
) -> None:
    """Write what was measured of a network into the card of its checkpoint, and how it was made.

    Where several attacks met it, robust is what none of them broke; certified is what the tightest
    bounds prove of the network itself, on as many images. Certificates of its smoothed classifier,
    attacks on certificates and rejections are left to their own records.

    Args:
        config: The run.
        plan: The model.
        records: What it was judged by, of these weights.
        place: Where its checkpoint lies.
    """
    networks = [verdicts(record) for record in records if record.meta.method != REJECTION]
    labelled = [found for found in networks if found.labelled]
    searched = [found for found in labelled if found.radii()]
    if not searched:
        return
    first = searched[0]
    proven = [
        found
        for found in labelled
        if found.radii("certified") and not found.tag("sigma") and found.samples == first.samples
    ]
    methods = (found.meta.method for found in (*searched, *proven))
    notes: dict[str, Any] = {
        "measured on": f"{first.samples:,} images of {first.meta.dataset}",
        "measured by": ", ".join(dict.fromkeys(methods)),
    }
    if plan.train is not None:
        notes |= {"recipe": config.recipe, "seed": plan.train.seed}
    path = place.checkpoint(plan.name)
    model, card = load_checkpoint(path)
    described = replace(card, accuracy=_rates(searched, proven), notes={**card.notes, **notes})
    if described != card:
        save_checkpoint(path, model, described, half=plan.half)


def _rates(searched: Sequence[Verdicts], proven: Sequence[Verdicts]) -> dict[str, float]:
    """Rates of one network by their names on a card."""
    rates: dict[str, float] = {}
    for found in gather(searched):
        right = found.accurate()
        rates["natural_accuracy"] = float(right.mean())
        for radius in found.radii():
            for kind, of in (("accuracy", right), ("inaccuracy", ~right)):
                rate = float((of & found.robust(radius)).mean())
                rates[f"robust_{kind}@{found.meta.norm}:{radius}"] = rate
    for found in proven:
        for radius in found.radii("certified"):
            name = f"certified_accuracy@{found.meta.norm}:{radius}"
            rate = float((found.accurate() & found.certified(radius)).mean())
            rates[name] = max(rate, rates.get(name, 0.0))
    return rates


def describe(
    card: Card, name: str, train: TrainConfig, data: Split, extra: Split | None = None
) -> Card:
    """The card of a model after training: what it was before, trained again.

    Args:
        card: Before.
        name: Of the model.
        train: How it is trained.
        data: Labelled images; the network's outputs follow their classes.
        extra: Pseudo-labelled images, if any.
    """
    trained_on = TrainedOn.of(data.name, data.row_fingerprints(), card.trained_on)
    if extra is not None:
        trained_on = TrainedOn.of(extra.name, extra.row_fingerprints(), trained_on)
    against = None if isinstance(train.objective, Standard) else train.threat
    named = data.classes == card.architecture.classes
    return replace(
        card,
        name=name,
        origin=f"{card.origin or 'fresh weights'}, trained on {data.name}",
        training=type(train.objective).__name__,
        norm=against.norm if against else "",
        eps=against.radius if against else "",
        label_names=data.label_names if named else card.label_names,
        accuracy={},
        trained_on=trained_on,
    )


__all__ = ["describe", "keep_rates", "obtain", "starting_point", "with_cost"]
