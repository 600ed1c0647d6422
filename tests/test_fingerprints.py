"""Fingerprints of training images: what is packed comes out again, and what is damaged does not."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.fingerprints import BYTES, packed, unpacked

FOUND = st.frozensets(st.binary(min_size=BYTES, max_size=BYTES), max_size=50)


def drawn(count: int) -> frozenset[bytes]:
    data = np.random.default_rng(0).integers(0, 256, (count, BYTES), dtype=np.uint8)
    return frozenset(row.tobytes() for row in data)


@given(FOUND)
def test_what_was_packed_comes_out(found: frozenset[bytes]) -> None:
    assert unpacked(packed(found)) == found
    assert packed(found) == packed(sorted(found, reverse=True)) == packed([*found, *found])


@given(FOUND)
def test_what_earlier_versions_packed_comes_out(found: frozenset[bytes]) -> None:
    assert unpacked(base64.b64encode(b"".join(sorted(found))).decode()) == found


def test_fifty_thousand_take_a_quarter_less_than_their_bytes() -> None:
    found = drawn(50_000)
    text = packed(found)
    assert unpacked(text) == found
    assert len(text) < 0.75 * len(base64.b64encode(b"".join(found)))


@pytest.mark.parametrize(
    "text",
    [
        "?",
        "zlib:?",
        "AAAA",
        "zlib:AAAA",
        packed(drawn(100))[:-8],
        "zlib:" + base64.b64encode(zlib.compress(b"abc")).decode(),
        "zlib:" + base64.b64encode(zlib.compress(bytes(10_000_000))).decode(),
    ],
)
def test_what_is_damaged_is_an_error_of_values(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(text)
