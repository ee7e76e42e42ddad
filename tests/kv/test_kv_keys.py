"""Keys as bytes: exact order, exact round trip, and what is refused."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.kv.codec import key
from provisioner.kv.errors import CursorInvalid, KeyInvalid, LimitExceeded, Malformed
from provisioner.kv.model import BigInt, KvKey

strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("\0\x01\xff a", max_size=6)
octets = st.binary(max_size=12) | st.lists(st.sampled_from([0, 1, 255]), max_size=6).map(bytes)
numbers = st.floats() | st.integers(-(2**53) + 1, 2**53 - 1)
bigints = (st.integers(-(2**80), 2**80) | st.integers(-(2**2040) + 1, 2**2040 - 1)).map(BigInt)
parts = octets | strings | bigints | numbers | st.booleans()
keys = st.lists(parts, max_size=5).map(tuple)


def rank(part: Any) -> tuple[int, Any]:
    """The order that the documentation gives, said another way."""
    if isinstance(part, bytes):
        return 0, part
    if isinstance(part, str):
        return 1, part.encode()
    if isinstance(part, bool):
        return 4, part
    if isinstance(part, BigInt):
        return 2, int(part)
    number = float(part)
    if math.isnan(number):
        return 3, (math.inf, 1)
    return 3, (number, math.copysign(1, number) if number == 0 else 0)


@given(keys, keys)
def test_bytes_have_the_order_of_the_keys(one: KvKey, other: KvKey) -> None:
    ranks = [[rank(part) for part in each] for each in (one, other)]
    encoded = [key.encode(each) for each in (one, other)]
    assert (encoded[0] < encoded[1]) == (ranks[0] < ranks[1])
    assert (encoded[0] == encoded[1]) == (ranks[0] == ranks[1])


@given(keys)
def test_a_key_comes_back_as_it_was(one: KvKey) -> None:
    again = key.decode(key.encode(one))
    assert [rank(part) for part in again] == [rank(part) for part in one]
    for part in again:
        assert not isinstance(part, float) or not part.is_integer() or abs(part) >= 2**53 or str(part) == "-0.0"


@given(keys, keys)
def test_a_key_can_be_decoded_behind_a_prefix_that_is_known(prefix: KvKey, rest: KvKey) -> None:
    data = key.encode(prefix)
    whole = key.decode(data + key.encode(rest), len(data), prefix)
    assert [rank(part) for part in whole] == [rank(part) for part in prefix + rest]


@given(st.binary(max_size=20))
def test_any_bytes_are_a_key_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed, KeyInvalid):
        key.encode(key.decode(data))


@pytest.mark.parametrize(
    ("part", "data"),
    [
        (b"\0\xff", "01 00ff ff 00"),
        ("a\0", "02 61 00ff 00"),
        (BigInt(0), "14"),
        (BigInt(255), "15 ff"),
        (BigInt(-1), "13 fe"),
        (BigInt(2**64), "1d 09 010000000000000000"),
        (BigInt(-(2**64)), "0b f6 feffffffffffffffff"),
        (1, "21 bff0000000000000"),
        (-0.0, "21 7fffffffffffffff"),
        (math.nan, "21 fff8000000000000"),
        (False, "26"),
        (True, "27"),
    ],
)
def test_parts_are_what_deno_writes(part: Any, data: str) -> None:
    assert key.encode((part,)) == bytes.fromhex(data.replace(" ", ""))


def test_half_of_a_surrogate_pair_is_replaced_as_deno_does() -> None:
    assert key.decode(key.encode(("a\ud800b", "\ud83d\ude00"))) == ("a\ufffdb", "\U0001f600")


@pytest.mark.parametrize(
    "one", ["users", b"users", 5, None, {"a": 1}, (None,), ([],), (1j,), (2**53,), (BigInt(2**2040),)]
)
def test_what_is_no_key_is_refused(one: Any) -> None:
    with pytest.raises(KeyInvalid):
        key.encode(one)


def test_a_number_that_is_too_large_names_the_way_out() -> None:
    with pytest.raises(KeyInvalid, match=r"BigInt\(9007199254740992\)"):
        key.encode((2**53,))


@pytest.mark.parametrize(
    ("prefix", "start", "end"),
    [
        (None, None, None),
        (None, ("a",), None),
        (None, None, ("a",)),
        (None, ("b",), ("a",)),
        (("a",), ("a", 1), ("a", 2)),
        (("a",), ("b", 1), None),
        (("a",), ("a",), None),
        (("a",), None, ("b",)),
    ],
)
def test_selectors_that_select_nothing_sensible_are_refused(prefix: Any, start: Any, end: Any) -> None:
    with pytest.raises(KeyInvalid):
        key.Selector.of(prefix, start, end)


def test_a_prefix_selects_what_has_more_parts() -> None:
    selector = key.Selector.of(("a",), None, None)
    for one, inside in ((("a",), False), (("a", b""), True), (("a", True), True), (("aa",), False), (("b",), False)):
        assert (selector.start <= key.encode(one) < selector.end) is inside


def test_a_cursor_resumes_behind_its_key_and_in_reverse_before_it() -> None:
    selector = key.Selector.of(("a",), None, None)
    boundary = key.encode(("a", 5))
    cursor = selector.cursor(boundary)
    assert selector.read(1, False, cursor)[:2] == (boundary + b"\0", selector.end)
    assert selector.read(1, True, cursor)[:2] == (selector.start, boundary)


@pytest.mark.parametrize("cursor", ["x", "!!!", "AA", "AAA", "/w==", "+/8=", "AB==", " AA==", "AA==\n", "é"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        key.Selector.of(("p",), None, None).read(1, False, cursor)


def test_a_cursor_that_leads_out_of_the_bounds_is_refused() -> None:
    whole = key.Selector.of(("p",), None, None)
    cursor = whole.cursor(key.encode(("p", 0)))
    with pytest.raises(CursorInvalid):
        key.Selector.of(("p",), ("p", 2), None).read(1, False, cursor)
    with pytest.raises(CursorInvalid):
        key.Selector.of(("p",), None, ("p", -1)).read(1, True, cursor)


def test_the_sizes_of_keys_are_limited_as_in_deno() -> None:
    assert key.point(b"x" * 2048)
    assert key.check_written(b"x" * 2048) == 2048
    assert key.Selector.of(("x" * 2046,), None, None).read(1, False, None)
    with pytest.raises(LimitExceeded):
        key.point(b"x" * 2049)
    with pytest.raises(LimitExceeded):
        key.check_written(b"x" * 2049)
    with pytest.raises(LimitExceeded):
        key.Selector.of(("x" * 2047,), None, None).read(1, False, None)
    with pytest.raises(KeyInvalid):
        key.check_written(b"")
