"""Which images a command trains on or judges, and the sentence that says so."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

from recuse.class_names import class_order
from recuse.cli import options
from recuse.cli.arguments import JudgedData, NamedData, Reading
from recuse.cli.console import LEFT_OUT, console, progress_display
from recuse.cli.launched import first, together
from recuse.data import Source, Split, Splits, TrainTest, load_part, source, source_at
from recuse.data.encoded import Reading as FileReading
from recuse.data.pool import pooled
from recuse.data.sources import read_as
from recuse.errors import ConfigError, DataError
from recuse.evaluation.admission import admit
from recuse.integrations.hub import SCHEME, HubDataset, hub_source, saved
from recuse.models.cards import Card
from recuse.progress import Progress, silent
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


def named_source(named: NamedData, progress: Progress = silent) -> Source:
    """The data set that was named, or the two; what takes long to read tells so.

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
        return data_source(str(named.data), named, progress)
    # Test images are compared with all training images, also where few are judged.
    whole = replace(named, limit=None)
    first = None if named.train_on is None else data_source(named.train_on, whole, progress)
    return TrainTest(first, data_source(named.test_on, named, progress))


def data_source(name: str, reading: Reading, progress: Progress = silent) -> Source:
    """A data set by name, of the hub, a folder of images or of parquet shards, or a parquet file.

    Raises:
        ConfigError: It takes no such setting.
        DataError: Unknown, lists the known.
    """
    path = Path(name)
    found: Source
    if name.startswith(SCHEME):
        found = hub_source(name)
    elif not (name and path.exists()):
        found = source(name, reading.root)
    else:
        found = HubDataset(str(path)) if saved(path) else source_at(path)
    files = isinstance(found, FileReading)
    more = {"limit": reading.limit, "progress": progress} if files else {}
    return read_as(found, **reading.settings(), **more)


def parts_of(name: str, reading: Reading) -> Splits:
    """The three parts of a data set; how they were cut is said.

    Raises:
        DataError: Unknown or damaged.
    """
    with progress_display() as progress:
        splits = data_source(name, reading, progress).load(reading.root)
    if splits.note:
        say(splits.note)
    tell(splits.train, splits.validation, splits.test)
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
    if named.output is not None and all(m.card is not None for m in models):
        raise ConfigError("--output is of models without a card, which none is; leave it out")
    with progress_display() as progress:
        split, note = load_part(named_source(named, progress), named.part, named.root)
    tell(split)
    wanted = named.limited(split)
    admitted = [
        admit(m.network, m.card, split, allow_training_data=named.allow_training_data)
        for m in models
    ]
    of = (
        f"{len(split):,}" if len(wanted) == len(split) else f"{len(wanted):,} of the {len(split):,}"
    )
    if named.limit == len(split):
        of = f"the first {of}"
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
    with progress_display() as progress:
        splits = named_source(named, progress).load(named.root)
    tell(splits.train, splits.validation, splits.test)
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
    name: str | None, teacher: str | None, like: Split, reading: Reading, device_name: str
) -> Split | None:
    """Training images of a data set under the labels that a teacher predicts; None without name.

    Args:
        name: The data set; its own labels are ignored.
        teacher: The model, as :func:`recuse.cli.options.model` takes it.
        like: Labelled data, whose classes the teacher predicts.
        reading: How the images are read.
        device_name: Where to predict.

    Raises:
        ConfigError: One of the two names without the other, or no such model.
        DataError: No such data, or a teacher that does not fit them.
    """
    if name is None and teacher is None:
        return None
    if name is None or teacher is None:
        raise ConfigError("extra images need a teacher and a teacher extra images; give both")
    labels = options.model(teacher, reading.root)
    with progress_display() as progress:
        extra = data_source(name, reading, progress)
        pool = pooled(extra, reading.root)
        images = extra.load(reading.root).train if pool is None else pool
    tell(images)
    unlabelled = images.labelled(images.labels * 0, like.label_names)
    admitted = admit(labels.network, labels.card, unlabelled, allow_training_data=True)
    return pseudo_labelled(admitted.network.to(options.device(device_name)), unlabelled)


def tell(*splits: Split) -> None:
    """Say on standard error what a person should know of the data, and list what was left out."""
    skipped = tuple(dict.fromkeys(entry for split in splits for entry in split.skipped))
    left_out = [f"left out: {entry}" for entry in skipped]
    if skipped:
        left_out.append(f"{len(skipped)} images could not be read and were left out")
    remarks = (remark for split in splits for remark in split.remarks)
    for sentence in (*dict.fromkeys(remarks), *left_out):
        console.print(f"recuse: {sentence}", markup=False, soft_wrap=True)


def leave(*splits: Split) -> None:
    """End a command whose work is done: with code 3 where images had to be left out.

    A launcher of several processes would take that for a failure, and start them again.

    Raises:
        SystemExit: They had.
    """
    if not together() and any(split.skipped for split in splits):
        sys.exit(LEFT_OUT)


def say(sentence: str) -> None:
    """One line on standard output, however long."""
    Console(soft_wrap=True, highlight=False, quiet=not first()).print(sentence, markup=False)
