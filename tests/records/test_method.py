"""What measured a record has a name of its own in Python and the old one on disk."""

from recuse.records.schema import RecordMeta

META = RecordMeta("m", "d/test", "smoothing", "l2", ("0.12",), "w", {"sigma": 0.12}, 3, {"a": 1})


def test_files_and_keys_are_those_of_before() -> None:
    assert META.fields()["attack"] == "smoothing"
    assert "method" not in META.fields()
    assert RecordMeta.from_fields({**META.fields(), "radii": ["0.12"]}) == META
    # As the field was called attack in Python too.
    assert META.key == "2ea50407543d13ea"
