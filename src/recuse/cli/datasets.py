"""Which images a command trains on or judges, and the sentence that says so."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

from recuse.class_names import class_order
from recuse.cli import options
from recuse.cli.options import LoadedModel
from recuse.data import Source, Split, Splits, TrainTest, load_part, source, source_at
from recuse.data.pool import pooled
from recuse.errors import ConfigError, DataError
from recuse.evaluation.admission import admit
from recuse.models.cards import Card
from recuse.training import pseudo_labelled


@dataclass(frozen=True)
class Named:
    """Data as a person names them.

    Attributes:
        data: One data set, which has parts or is cut into them.
        train_on: A data set to train on.
        test_on: A data set to judge.
        part: Of ``data``, what to judge: test, validation, train or all.
    """

    data: str | None = None
    train_on: str | None = None
    test_on: str | None = None
    part: str = "test"

    def source(self) -> Source:
        """The data set, or the two.

        Raises:
            ConfigError: Both ways of naming them, or none.
            DataError: Nothing of that name.
        """
        if (self.data is None) == (self.test_on is None) or (self.data and self.train_on):
            raise ConfigError(
                "name the images once: one data set (--data), or one to train on and one to judge "
                "(--train-on, --test-on)"
            )
        if self.test_on is None:
            return data_source(str(self.data))
        first = None if self.train_on is None else data_source(self.train_on)
        return TrainTest(first, data_source(self.test_on))


@dataclass(frozen=True, eq=False)
class ToJudge:
    """Images to judge and networks that may be judged on them.

    Attributes:
        split: All images of the part.
        networks: Their outputs are in the order of the data's classes.
        cards: In the order of the networks.
        tags: What records keep of it.
    """

    split: Split
    networks: tuple[nn.Module, ...]
    cards: tuple[Card | None, ...]
    tags: dict[str, int]


def data_source(name: str) -> Source:
    """A data set by name, a folder of images or of parquet shards, or a parquet file.

    Raises:
        DataError: Unknown, lists the known.
    """
    path = Path(name)
    return source_at(path) if name and path.exists() else source(name)


def parts_of(name: str, root: Path | None) -> Splits:
    """The three parts of a data set; how they were cut is said.

    Raises:
        DataError: Unknown or damaged.
    """
    splits = data_source(name).load(root)
    if splits.note:
        say(splits.note)
    return splits


def to_judge(
    named: Named,
    models: tuple[LoadedModel, ...],
    root: Path | None,
    *,
    limit: int | None,
    allow_training_data: bool,
) -> ToJudge:
    """Load the images, check the networks against them, and say first how many are judged.

    Raises:
        ConfigError: Unclear what to judge.
        DataError: Damaged data, or a network that knows other classes or was trained on them.
    """
    split, note = load_part(named.source(), named.part, root)
    wanted = split if limit is None else split.head(limit)
    admitted = [
        admit(m.network, m.card, split, allow_training_data=allow_training_data) for m in models
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
        tuple(one.network for one in admitted),
        tuple(one.card for one in admitted),
        {name: count for one in admitted for name, count in one.tags.items()},
    )


def to_train_on(named: Named, root: Path | None) -> Splits:
    """Load the three parts and say how many images there are.

    Raises:
        ConfigError: Unclear what to train on, or no training set.
        DataError: Damaged data.
    """
    if named.test_on is not None and named.train_on is None:
        raise ConfigError("there is nothing to train on; name it (--train-on)")
    splits = named.source().load(root)
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
