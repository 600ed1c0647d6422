"""Outputs and labels that mean the same classes in another order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recuse.class_names import class_order
from recuse.errors import DataError

NAMES = ("airplane", "bird", "cat", "deer", "traffic-light")
words = {"model": "the net", "data": "photos"}


@given(st.permutations(range(5)))
def test_the_order_turns_the_outputs_into_the_labels(shuffle: list[int]) -> None:
    wanted = tuple(NAMES[i] for i in shuffle)
    order = class_order(NAMES, wanted, **words)
    outputs = torch.eye(5)  # image k is of the network's class k
    ordered = outputs if order is None else outputs[:, list(order)]
    assert [wanted[k] for k in ordered.argmax(dim=1)] == list(NAMES)
    assert (order is None) == (wanted == NAMES)


def test_what_the_data_do_not_have_comes_last() -> None:
    assert class_order(NAMES, ("deer", "bird"), **words) == (3, 1, 0, 2, 4)
    assert class_order(NAMES, NAMES[:2], **words) is None


def test_spelling_does_not_tell_classes_apart_unless_nothing_else_does() -> None:
    assert class_order(NAMES, ("Traffic light", "CAT"), **words) == (4, 2, 0, 1, 3)
    close = ("go-1", "go_1", "stop")
    assert class_order(close, ("go_1", "go-1"), **words) == (1, 0, 2)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ((), NAMES),
        (("0", "1"), NAMES[:2]),
        (NAMES, ("0", "1", "2")),
        ((), ("0", "10", "2")),
        (("0", "1", "2"), ("00000", "00001", "00002")),
    ],
)
def test_without_names_on_one_side_the_order_is_taken_as_it_is(
    own: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert class_order(own, wanted, **words) is None


def test_numbered_folders_stand_for_the_outputs_they_count() -> None:
    folders = tuple(sorted(str(i) for i in range(11)))  # alphabetical: 0, 1, 10, 2, ...
    outputs = tuple(str(i) for i in range(12))
    assert class_order(outputs, folders, **words) == (0, 1, 10, *range(2, 10), 11)
    assert class_order(NAMES, ("1", "3"), **words) == (1, 3, 0, 2, 4)
    assert class_order(folders, ("10", "1"), **words) == (2, 1, 0, *range(3, 11))
    with pytest.raises(DataError, match=r"does not know \(7; it"):
        class_order(NAMES, ("1", "7"), **words)


def test_an_unknown_class_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        DataError, match=r"photos has classes that the net does not know \(car; it"
    ) as e:
        class_order(NAMES, ("cat", "car"), **words)
    assert "\n" not in str(e.value)
    with pytest.raises(DataError, match="does not know"):
        class_order(NAMES[:3], NAMES, **words)
