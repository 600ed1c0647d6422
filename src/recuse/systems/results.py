"""Measured numbers in the forms of others: RobustBench's ``model_info`` and Hugging Face's card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recuse.analysis.intervals import wilson_of
from recuse.analysis.verdicts import Verdicts
from recuse.composition import Core, Stage
from recuse.errors import ConfigError, RecordError
from recuse.models.cards import Card
from recuse.models.mixture import Mixture
from recuse.systems.measuring import plain
from recuse.systems.onnx import searches
from recuse.systems.system import System
from recuse.threat import Threat

Rate = Sequence[float]


@dataclass(frozen=True)
class Publication:
    """What nobody but the authors can say of an entry.

    Attributes:
        title: Of the work; empty for the system's own name.
        authors: As the leaderboard shall print them.
        link: Of the work.
        venue: Of the work.
        additional_data: Networks saw images beyond the data set's training part.
    """

    title: str = ""
    authors: str = ""
    link: str = ""
    venue: str = ""
    additional_data: bool = False


@dataclass(frozen=True)
class Measured:
    """What was measured of a system or a network, as others publish it.

    Attributes:
        name: Of the system or network.
        architecture: Of its networks, joined by ``+``.
        networks: How many there are: forward passes at inference, but for a search.
        searches: It searches or draws at inference, which the leaderboard's rules exclude.
        data: Data set and part.
        rows: Images.
        budget: The attacker's ball.
        natural: Accuracy with its interval.
        sound: Lower bound on robust accuracy likewise; None where none is known.
        attacked: Upper bound likewise: what the adversary left.
        licence: Of the weights; empty where it is not known.
    """

    name: str
    architecture: str
    networks: int
    searches: bool
    data: str
    rows: int
    budget: Threat
    natural: Rate
    sound: Rate | None
    attacked: Rate
    licence: str = ""


def measured_of(system: System) -> Measured:
    """What a system's building has measured of it.

    Raises:
        ConfigError: Nothing was measured.
    """
    found, cascade = system.measured, system.cascade
    if not found:
        raise ConfigError(
            f"nothing was measured of system {system.name!r}; recuse build measures what it builds"
        )
    cards = [card for member in cascade.members for card in _cards(member)]
    licences = dict.fromkeys(card.licence for card in cards if card.licence)
    return Measured(
        system.name,
        " + ".join(_architecture(card) for card in cards),
        len(cards),
        any(searches(stage.selector) for stage in cascade.stages),
        found["data"],
        found["rows"],
        cascade.budget,
        found["natural"],
        found["sound"],
        found["attacked"],
        "; ".join(licences),
    )


def measured_in(network: Verdicts, budget: Threat) -> Measured:
    """What a record says of a network at one radius.

    Raises:
        RecordError: It was not judged there.
    """
    if network.meta.norm != budget.norm or not network.has("robust", budget.radius):
        raise RecordError(
            f"{network.meta.model} was not judged within {budget}; recuse evaluate does it"
        )
    accurate = network.accurate()
    left = accurate & network.stable("robust", budget.radius)
    return Measured(
        network.meta.model,
        "",
        1,
        False,
        network.meta.dataset,
        len(accurate),
        budget,
        plain(wilson_of(accurate)),
        None,
        plain(wilson_of(left)),
    )


def model_info(found: Measured, about: Publication) -> dict[str, Any]:
    """An entry of RobustBench's ``model_info``, with our bounds beside the leaderboard's numbers.

    ``reported`` is what our adversary left. ``autoattack_acc`` stays empty: AutoAttack was not run.
    """
    notes = [
        f"Measured on {found.rows} images of {found.data}. The reported number is what an "
        "adversary of the whole system left; AutoAttack was not run."
    ]
    if found.sound is not None:
        notes.append(
            f"At least {_percent(found.sound[0])}% is robust by sound accounting of the members."
        )
    if found.searches:
        notes.append("It searches or draws at inference, which the leaderboard's rules exclude.")
    return {
        "link": about.link,
        "name": about.title or found.name,
        "authors": about.authors,
        "additional_data": about.additional_data,
        "number_forward_passes": found.networks,
        "dataset": found.data.partition("/")[0],
        "venue": about.venue,
        "architecture": found.architecture,
        "eps": found.budget.radius,
        "clean_acc": _percent(found.natural[0]),
        "reported": _percent(found.attacked[0]),
        "autoattack_acc": "",
        "footnote": " ".join(notes),
        "unreliable": found.searches,
        "recuse": {
            "budget": str(found.budget),
            "data": found.data,
            "rows": found.rows,
            "natural": list(found.natural),
            "sound": None if found.sound is None else list(found.sound),
            "attacked": list(found.attacked),
        },
    }


def model_card(found: Measured, page: str) -> str:
    """A Hugging Face model card: results as metadata, then the page.

    Args:
        found: The numbers.
        page: Markdown below the metadata.

    Raises:
        ConfigError: The extra ``hub`` is not installed.
    """
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise ConfigError(
            f"a model card needs {error.name}; install it with pip install 'recuse[hub]'"
        ) from error
    data, _, part = found.data.partition("/")
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data,
            dataset_name=data,
            dataset_split=part or None,
            dataset_args={"rows": found.rows},
            metric_type=kind,
            metric_name=name,
            metric_value=rate[0],
            metric_args={"interval": list(rate[1:])},
        )
        for (kind, name), rate in _rates(found).items()
        if rate is not None
    ]
    about = ModelCardData(
        model_name=found.name,
        library_name="recuse",
        pipeline_tag="image-classification",
        tags=["adversarial-robustness", "selective-classification"],
        license="other" if found.licence else None,
        license_name=found.licence or None,
        datasets=[data],
        eval_results=results,
    )
    return f"---\n{about.to_yaml()}\n---\n\n{page}"


def _rates(found: Measured) -> dict[tuple[str, str], Rate | None]:
    """Each rate by the metric's type and name."""
    within = f"robust accuracy within {found.budget}"
    return {
        ("accuracy", "natural accuracy"): found.natural,
        ("robust_accuracy_sound", f"{within}, sound"): found.sound,
        ("robust_accuracy_attacked", f"{within}, attacked"): found.attacked,
    }


def page_of(found: Measured) -> str:
    """A page for a network of a run, which has none of its own."""
    rates: Mapping[str, Rate] = {
        "natural accuracy": found.natural,
        f"robust accuracy within {found.budget} (attacked)": found.attacked,
    }
    rows = "\n".join(
        f"| {title} | {_percent(rate[0])} ({_percent(rate[1])} to {_percent(rate[2])}) |"
        for title, rate in rates.items()
    )
    return (
        f"# {found.name}\n\nMeasured on {found.rows} images of {found.data} (95 % intervals).\n\n"
        f"| | % |\n|---|---|\n{rows}\n"
    )


def _cards(member: Stage | Core) -> list[Card]:
    """The cards of a member's networks: of both in a mixture, of a selection network too."""
    own = member.card
    assert own is not None  # what is stored has a card
    if isinstance(own.architecture, Mixture):
        found = [own.architecture.robust, own.architecture.standard]
    else:
        found = [own]
    judge = member.selector_card if isinstance(member, Stage) else None
    return [*found, judge] if judge else found


def _architecture(card: Card) -> str:
    """A network's architecture as leaderboards write it: ``WideResNet-28-10``."""
    config = card.architecture
    sizes = (getattr(config, name, None) for name in ("depth", "width"))
    return "-".join([type(config).__name__, *(str(size) for size in sizes if size is not None)])


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


__all__ = [
    "Measured",
    "Publication",
    "measured_in",
    "measured_of",
    "model_card",
    "model_info",
    "page_of",
]
