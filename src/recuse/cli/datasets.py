"""Which images a command trains on or judges, and the sentence that says so."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

from recuse.class_names import class_order
from recuse.cli import options
from recuse.cli.arguments import JudgedData, NamedData, Reading
from recuse.data import Source, Split, Splits, TrainTest, load_part, source, source_at
from recuse.data.pool import pooled
from recuse.errors import ConfigError, DataError
from recuse.evaluation.admission import admit
from recuse.models.cards import Card
from recuse.training import pseudo_labelled


@dataclass(frozen=True, eq=False)
class ToJudge:
    """Images to judge and networks that may be judged on them.

    Attributes:
        split: All images of the part.
        members: Networks, with outputs in the order of the data's classes; their names and cards.
        tags: What records keep of it.
    """

    split: Split
    members: tuple[tuple[nn.Module, str, Card | None], ...]
    tags: dict[str, int]


def named_source(named: NamedData) -> Source:
    """The data set that was named, or the two.

    Raises:
        ConfigError: Both ways of naming them, or none.
        DataError: Nothing of that name.
    """
    if (named.data is None) == (named.test_on is None) or (named.data and named.train_on):
        raise ConfigError(
            "name the images once: one data set (--data), or one to train on and one to judge "
            "(--train-on, --test-on)"
        )
    if named.test_on is None:
        return data_source(str(named.data))
    first = None if named.train_on is None else data_source(named.train_on)
    return TrainTest(first, data_source(named.test_on))


def data_source(name: str) -> Source:
    """A data set by name, a folder of images or of parquet shards, or a parquet file.

    Raises:
        DataError: Unknown, lists the known.
    """
    path = Path(name)
    return source_at(path) if name and path.exists() else source(name)


def parts_of(name: str, reading: Reading) -> Splits:
    """The three parts of a data set; how they were cut is said.

    Raises:
        DataError: Unknown or damaged.
    """
    splits = data_source(name).load(reading.root)
    if splits.note:
        say(splits.note)
    return splits


def to_judge(named: JudgedData, refs: tuple[str, ...], device_name: str) -> ToJudge:
    """Load networks and images, check them against each other, say first how many are judged.

    Args:
        named: The images.
        refs: The networks, as :func:`recuse.cli.options.model` takes them.
        device_name: Where the networks shall compute.

    Raises:
        ConfigError: Unclear what to judge, or no such network or device.
        DataError: Damaged data, or a network that knows other classes or was trained on them.
    """
    device = options.device(device_name)
    models = [options.model(ref, named.root, named.output) for ref in refs]
    split, note = load_part(named_source(named), named.part, named.root)
    wanted = named.limited(split)
    admitted = [
        admit(m.network, m.card, split, allow_training_data=named.allow_training_data)
        for m in models
    ]
    of = (
        f"{len(split):,}" if len(wanted) == len(split) else f"{len(wanted):,} of the {len(split):,}"
    )
    more = f"; {note}" if note else ""
    if note and named.test_on is None:
        more += " (--part all judges every one)"
    say(f"judging {of} images of {split.name}{more}")
    for sentence in dict.fromkeys(sentence for one in admitted for sentence in one.said):
        say(sentence)
    return ToJudge(
        split,
        tuple(
            (one.network.to(device), model.name, one.card)
            for one, model in zip(admitted, models, strict=True)
        ),
        {name: count for one in admitted for name, count in one.tags.items()},
    )


def to_train_on(named: NamedData) -> Splits:
    """Load the three parts and say how many images there are.

    Raises:
        ConfigError: Unclear what to train on, or no training set.
        DataError: Damaged data.
    """
    if named.test_on is not None and named.train_on is None:
        raise ConfigError("there is nothing to train on; name it (--train-on)")
    splits = named_source(named).load(named.root)
    rest = splits.note or (
        f"validating on {len(splits.validation):,}, leaving {len(splits.test):,} of "
        f"{splits.test.name} to judge"
    )
    say(f"training on {len(splits.train):,} images of {splits.train.name}; {rest}")
    return splits


def counted_by(card: Card, splits: Splits) -> Splits:
    """The data with labels counted as the network's outputs are, where their names allow it.

    A network of other classes learns new ones; its outputs then follow the data.
    """
    parts = (splits.train, splits.validation, splits.test)
    try:
        order = class_order(card.label_names, parts[0].label_names, model="it", data="the data")
    except DataError:
        return splits
    if order is None:
        return splits
    say(f"labels of {parts[0].name} are re-ordered by name to the outputs of {card.name!r}")
    train, validation, test = (part.relabelled(card.label_names) for part in parts)
    return replace(splits, train=train, validation=validation, test=test)


def pseudo_labelled_data(
    name: str | None, teacher: str | None, like: Split, root: Path | None, device_name: str
) -> Split | None:
    """Training images of a data set under the labels that a teacher predicts; None without name.

    Args:
        name: The data set; its own labels are ignored.
        teacher: The model, as :func:`recuse.cli.options.model` takes it.
        like: Labelled data, whose classes the teacher predicts.
        root: The data folder.
        device_name: Where to predict.

    Raises:
        ConfigError: One of the two names without the other, or no such model.
        DataError: No such data, or a teacher that does not fit them.
    """
    if name is None and teacher is None:
        return None
    if name is None or teacher is None:
        raise ConfigError("extra images need a teacher and a teacher extra images; give both")
    labels = options.model(teacher, root)
    extra = data_source(name)
    pool = pooled(extra, root)
    images = extra.load(root).train if pool is None else pool
    unlabelled = replace(images, labels=images.labels * 0, label_names=like.label_names)
    admitted = admit(labels.network, labels.card, unlabelled, allow_training_data=True)
    return pseudo_labelled(admitted.network.to(options.device(device_name)), unlabelled)


def say(sentence: str) -> None:
    """One line on standard output, however long."""
    Console(soft_wrap=True, highlight=False).print(sentence, markup=False)
