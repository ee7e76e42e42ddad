"""Values as V8 serializes them: against the general library, and with themselves."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from v8serialize import loads
from v8serialize.constants import JSRegExpFlag, SerializationTag
from v8serialize.jstypes import (
    JSArray,
    JSArrayBuffer,
    JSBigInt,
    JSError,
    JSHole,
    JSInt16Array,
    JSMap,
    JSObject,
    JSRegExp,
    JSSet,
    JSUint8Array,
    JSUndefined,
)

from provisioner.kv.codec import v8_fallback_reader, v8_fallback_writer, value
from provisioner.kv.errors import Malformed, ValueInvalid
from provisioner.kv.model import UNDEFINED, BigInt, Encoding, JSDate, KvU64, RegExp

strings = st.text(max_size=20) | st.text(st.characters(max_codepoint=255), max_size=200)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats() | st.sampled_from([-0.0, 2**31, 2**31 - 1, -(2**31) - 1])
bigints = st.integers(-(2**130), 2**130).map(BigInt)
moments = st.datetimes(
    datetime.datetime(1, 1, 2),
    datetime.datetime(9999, 12, 30),
    timezones=st.just(datetime.UTC),
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
expressions = st.builds(
    RegExp,
    st.sampled_from(["", "a+", "[ab]|c", "ü漢", r"\d+\.x", "(?<n>x)"]),
    st.sampled_from(["", "i", "m", "s", "ims", "g", "dgimsuy", "v"]),
)
scalars = (
    st.none()
    | st.booleans()
    | st.just(UNDEFINED)
    | strings
    | numbers
    | bigints
    | st.binary(max_size=20)
    | moments
    | expressions
)
hashable = st.booleans() | strings | st.integers(2, 2**53 - 1) | bigints.filter(lambda number: abs(number) > 2**60)
names = strings | st.integers(0, 2**33).map(str) | st.sampled_from(["0", "00", "-1", "1.5", "4294967294", "4294967295"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(numbers, max_size=6)
        | st.dictionaries(names, inner, max_size=6)
        | st.dictionaries(st.integers(0, 99), inner, min_size=1, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, also with NaN, and of the types that decoding gives back."""
    if isinstance(one, float) and isinstance(other, (int, float)) and not isinstance(other, bool):
        if math.isnan(one):
            return math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, dict) and isinstance(other, (dict, JSMap)):
        pairs = zip(sorted(one.items(), key=repr), sorted(other.items(), key=repr), strict=True)
        return len(one) == len(other) and all(same(a[0], b[0]) and same(a[1], b[1]) for a, b in pairs)
    if isinstance(one, (list, tuple)):
        return type(other) is list and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


@given(values)
def test_a_value_comes_back_as_it_was(one: Any) -> None:
    assert same(one, value.decode(*value.encode(one)))


@given(values)
def test_what_is_written_is_what_the_general_library_reads(one: Any) -> None:
    """The other half of the proof: a mistake that reading would undo shows here."""
    assert same(one, v8_fallback_reader.loads(value.to_v8(one)))


@given(values)
def test_what_the_general_library_writes_is_read(one: Any) -> None:
    assert same(one, value.from_v8(v8_fallback_writer.dumps(one)))


@settings(max_examples=300)
@given(st.binary(max_size=24) | values.map(value.to_v8).map(lambda data: data[2:]), st.data())
def test_any_bytes_are_a_value_or_malformed(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    flip = draw.draw(st.integers(0, 255))
    for broken in (
        b"\xff\x0f" + data,
        b"\xff\x0f" + data[:cut],
        b"\xff\x0f" + data[:cut] + bytes((flip,)) + data[cut + 1 :],
    ):
        try:
            value.from_v8(broken)
        except Malformed:
            continue


@pytest.mark.parametrize(
    ("one", "data"),
    [
        (None, "30"),
        (UNDEFINED, "5f"),
        (True, "54"),
        (64, "49 8001"),
        (-(2**31), "49 ffffffff0f"),
        (2**31, "4e 000000000000e041"),
        (1.0, "49 02"),
        (-0.0, "4e 0000000000000080"),
        ("é", "22 01e9"),
        ("\ud800", "63 02 00d8"),
        ("漢" * 64, "00 63 8001" + "226f" * 64),
        (BigInt(0), "5a 00"),
        (BigInt(-(2**64)), "5a 21 00000000000000000100000000000000"),
        ([1, 1.5], "41 02 4e000000000000f03f 4e000000000000f83f 2400 02"),
        ([1, "a", 1.5], "41 03 4902 220161 4e000000000000f83f 2400 03"),
        ({"b": 1, "1": 3}, "6f 4902 4906 220162 4902 7b02"),
        ({"u": b"\1"}, "6f 220175 42 01 01 56 42 00 01 00 7b01"),
        ({1: 2}, "3b 4902 4904 3a02"),
        ({5}, "27 490a 2c01"),
        (re.compile("a", re.I), "52 220161 02"),
        (datetime.datetime(1970, 1, 1, 0, 0, 0, 1999, datetime.UTC), "44 000000000000f03f"),
    ],
)
def test_values_are_what_deno_writes(one: Any, data: str) -> None:
    assert value.to_v8(one) == b"\xff\x0f" + bytes.fromhex(data.replace(" ", ""))


def test_circles_and_shared_objects_stay_what_they_are() -> None:
    circle: dict[str, Any] = {"name": "x"}
    circle["self"] = circle
    circle["list"] = [circle, shared := [1]]
    circle["shared"] = shared
    again = value.from_v8(value.to_v8(circle))
    assert again["self"] is again
    assert again["list"][0] is again
    assert again["list"][1] is again["shared"]
    assert value.from_v8(value.to_v8([b"a", b"b", shared, shared, b"a"])) == [b"a", b"b", [1], [1], b"a"]


def test_top_level_bytes_and_u64_have_encodings_of_their_own() -> None:
    assert value.encode(b"abc") == (b"abc", Encoding.BYTES)
    assert value.encode(bytearray(b"abc")) == (b"abc", Encoding.BYTES)
    assert value.encode(KvU64(258)) == (b"\2\1\0\0\0\0\0\0", Encoding.LE64)
    assert value.decode(b"\2\1\0\0\0\0\0\0", Encoding.LE64) == KvU64(258)


@pytest.mark.parametrize(
    "one",
    [
        2**53,
        -(2**53),
        [2**60],
        object(),
        [object()],
        len,
        1j,
        {"a": KvU64(1)},
        datetime.datetime(2020, 1, 1),
        datetime.date(2020, 1, 1),
        re.compile(b"a"),
        re.compile("a", re.VERBOSE),
        re.compile("a", re.ASCII),
    ],
)
def test_what_javascript_has_no_value_for_is_refused(one: Any) -> None:
    with pytest.raises(ValueInvalid):
        value.encode(one)


def test_a_number_that_is_too_large_names_the_way_out() -> None:
    with pytest.raises(ValueInvalid, match=r"BigInt\(9007199254740992\)"):
        value.encode(2**53)


def test_what_is_nested_too_deeply_is_refused_both_ways() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueInvalid, match="deep"):
        value.encode(deep)
    with pytest.raises(Malformed, match="deep"):
        value.from_v8(b"\xff\x0f" + b"A\1" * 20_000)


@pytest.mark.parametrize(
    ("one", "back"),
    [
        (JSMap({"a": 1}), JSMap({"a": 1})),
        (JSSet([1, True]), JSSet([1, True])),
        (JSSet([1, 2]), {1, 2}),
        (JSArray([1, JSHole, 3]), JSArray([1, JSHole, 3])),
        (JSArray([1, 2]), [1, 2]),
        (JSRegExp("a+", JSRegExpFlag.Global), RegExp("a+", "g")),
        (RegExp("a+", "g"), RegExp("a+", "g")),
        ([RegExp("a+", "dgimsuy"), JSArray([JSHole, 1])], [RegExp("a+", "dgimsuy"), JSArray([JSHole, 1])]),
        (re.compile("a+", re.I), RegExp("a+", "i")),
        (JSObject(a=1), {"a": 1}),
        (JSInt16Array(JSArrayBuffer(b"abcd")), JSInt16Array(JSArrayBuffer(b"abcd"))),
        (JSUint8Array(JSArrayBuffer(b"abcd")), b"abcd"),
        (JSArrayBuffer(b"abcd"), JSArrayBuffer(b"abcd")),
        (JSBigInt(5), BigInt(5)),
        (JSUndefined, UNDEFINED),
        (
            {"x": JSBigInt(5), "y": [BigInt(6), UNDEFINED, b"z", {1, 2}]},
            {"x": BigInt(5), "y": [BigInt(6), UNDEFINED, b"z", {1, 2}]},
        ),
    ],
)
def test_types_that_python_lacks_are_those_of_the_general_library(one: Any, back: Any) -> None:
    again = value.from_v8(value.to_v8(one))
    assert again == back
    assert type(again) is type(back)


def test_errors_come_back_as_errors() -> None:
    again = value.from_v8(value.to_v8({"error": JSError("boom", name="TypeError"), "list": [1, {"a": b"x"}]}))
    assert again["error"].message == "boom"
    assert again["error"].name == "TypeError"
    assert again["list"] == [1, {"a": b"x"}]
    assert type(again["list"]) is list


def test_dates_outside_of_pythons_calendar_stay_readable() -> None:
    for one in (JSDate(8.64e15), JSDate(-8.64e15)):
        assert value.from_v8(value.to_v8(one)) == one
    assert math.isnan(value.from_v8(value.to_v8(JSDate(math.nan))))


def test_a_set_that_python_would_shrink_stays_whole() -> None:
    data = b"\xff\x0f'I\x02T,\x02"  # new Set([1, true])
    assert list(value.from_v8(data)) == [1, True]
    assert value.to_v8(value.from_v8(data))[2:] == data[2:]


def test_an_array_that_once_had_holes_is_a_list() -> None:
    assert value.from_v8(bytes.fromhex("ff1061024900490249025f400202")) == [1, UNDEFINED]


def test_the_formats_of_older_and_newer_v8_are_read() -> None:
    for version in (13, 14, 15, 16):
        assert value.from_v8(bytes((0xFF, version)) + b'"\1a') == "a"
        assert value.from_v8(bytes((0xFF, version)) + b"S\2\xc3\xbc") == "ü"
    for version in (12, 17):
        with pytest.raises(Malformed):
            value.from_v8(bytes((0xFF, version)) + b'"\1a')


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"1234567", 2), (b"123456789", 2), (b"", 1), (b"\xff\x0f", 1), (b"x", 4), (b"x", 0)]
)
def test_malformed_bytes_are_a_typed_error(data: bytes, encoding: int) -> None:
    with pytest.raises(Malformed):
        value.decode(data, encoding)


def test_the_general_library_reads_it_too() -> None:
    again = loads(value.to_v8({"a": [1, "b"]}), js_constants={SerializationTag.kUndefined: None})
    assert again == JSObject(a=JSArray([1, "b"]))


def test_what_node_writes_is_read() -> None:
    """`v8.serialize({u: Uint8Array.of(1, 2), b: Buffer.from("x"), i: Int16Array.of(1)})`; each takes a number."""
    node = bytes.fromhex("ff0f6f2201755c010201022201625c0a017822016f6f7b002201725e037b04")
    assert value.from_v8(node) == {"u": b"\1\2", "b": b"x", "o": {}, "r": {}}
    other = value.from_v8(bytes.fromhex("ff0f6f2201695c0302010022016f6f7b002201725e027b03"))
    assert other["i"] == JSInt16Array(JSArrayBuffer(b"\1\0"))
    assert other["r"] is other["o"]
