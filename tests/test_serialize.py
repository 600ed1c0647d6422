import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.errors import ConfigError
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat


@dataclass(frozen=True)
class Leaf:
    steps: int
    rate: float
    name: str | None = None


@dataclass(frozen=True)
class Node:
    leaves: tuple[Leaf, ...]
    threat: Threat
    extra: dict[str, float]


CLASSES = {"Leaf": Leaf, "Node": Node, "Threat": Threat}
leaves = st.builds(
    Leaf, st.integers(-9, 9), st.floats(allow_nan=False), st.none() | st.text(max_size=5)
)
nodes = st.builds(
    Node,
    st.lists(leaves, max_size=3).map(tuple),
    st.builds(Threat, st.sampled_from(["linf", "l2"]), st.floats(0, 1)),
    st.dictionaries(st.sampled_from("abc"), st.floats(allow_nan=False), max_size=2),
)


@given(nodes)
def test_config_to_json_to_config_is_the_identity(node: Node) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(node))), CLASSES) == node


def test_foreign_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        from_plain({"kind": "Other"}, CLASSES)
    with pytest.raises(ConfigError, match="does not fit this version"):
        from_plain({"kind": "Leaf", "steps": 1, "speed": 2}, CLASSES)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("leaves", [{"kind": "Leaf", "steps": 1.5, "rate": 0.1}], "'steps' of 'Leaf' must be int"),
        ("leaves", [{"kind": "Leaf", "steps": 1, "rate": True}], "'rate' of 'Leaf' must be float"),
        ("leaves", [{"kind": "Leaf", "steps": 1, "rate": 1, "name": 2}], r"must be str \| None"),
        ("leaves", 3, "'leaves' of 'Node' must be"),
        ("leaves", [3], "'leaves' of 'Node' must be"),
        ("threat", "linf:0.1", "'threat' of 'Node' must be .*Threat"),
        ("extra", [], r"'extra' of 'Node' must be dict"),
        ("extra", {"a": "b"}, r"'extra' of 'Node' must be dict"),
        ("kind", ["Node"], "which is unknown"),
    ],
)
def test_values_of_another_type_are_refused(field: str, value: object, message: str) -> None:
    plain = to_plain(Node((Leaf(1, 0.1),), Threat("linf", 0.1), {"a": 1}))
    with pytest.raises(ConfigError, match=message):
        from_plain({**plain, field: value}, CLASSES)


def test_paths_become_text_and_other_objects_are_refused() -> None:
    assert to_plain({"out": Path("a") / "b"}) == {"out": "a/b"}
    with pytest.raises(TypeError, match="cannot hold"):
        to_plain({"x": object()})
