"""V8 values that somebody stores so that whoever reads them takes long, or much memory; each of about a given size."""

from __future__ import annotations

import struct
from collections.abc import Callable

HEADER = b"\xff\x0f"
_HASHED_BY = 2**61 - 1  # Python's hash of an integer is its remainder

Maker = Callable[[int], bytes]


def number(value: int) -> bytes:
    """As a varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(content: bytes) -> bytes:
    return b'"' + number(len(content)) + content


def bigint(value: int, size: int = 16) -> bytes:
    return b"Z" + number(size << 1) + value.to_bytes(size, "little")


def array(*items: bytes) -> bytes:
    return b"A" + number(len(items)) + b"".join(items) + b"$\0" + number(len(items))


def holed(length: int, items: dict[int, bytes]) -> bytes:
    pairs = b"".join(b"U" + number(index) + item for index, item in items.items())
    return b"a" + number(length) + pairs + b"@" + number(len(items)) + number(length)


def again(index: int) -> bytes:
    """A reference to the object that came as this one."""
    return b"^" + number(index)


def ordinary(size: int) -> bytes:
    """What values usually are: what the others are compared with."""
    count = size // 18
    pairs = (text(b"k%05d" % index) + text(b"v" * 8) for index in range(count))
    return HEADER + b"o" + b"".join(pairs) + b"{" + number(count)


def _expression(piece: str) -> Maker:
    def make(size: int) -> bytes:
        two_bytes = not piece.isascii()
        source = piece.encode("utf-16-le") if two_bytes else piece.encode()
        source *= (size - 20) // len(source)
        return HEADER + b"R" + (b"\0c" if two_bytes else b'"') + number(len(source)) + source + b"\x02"

    return make


def _many(item: bytes) -> Maker:
    return lambda size: HEADER + array(*[item] * ((size - 16) // len(item)))


def _repeated(piece: bytes) -> Maker:
    return lambda size: HEADER + piece * (size // len(piece))


def _set(size: int) -> bytes:
    count = size // 18
    return HEADER + b"'" + b"".join(bigint(_HASHED_BY * (index + 1)) for index in range(count)) + b"," + number(count)


def _map(size: int) -> bytes:
    count = size // 19
    pairs = (bigint(_HASHED_BY * (index + 1)) + b"0" for index in range(count))
    return HEADER + b";" + b"".join(pairs) + b":" + number(2 * count)


def _laughs(first: bytes, outer: Callable[[int, int], bytes]) -> Maker:
    """Each of many objects has many references to the one before: read in full, there are more than atoms."""

    def make(size: int) -> bytes:
        width = 100
        depth = size // len(outer(20_000, width))
        return HEADER + array(first, *(outer(index, width) for index in range(1, depth)))

    return make


def _referred(item: bytes, index: int) -> Maker:
    """One large object and many references to it."""
    return lambda size: HEADER + array(item, *[again(index)] * (size // 10))


def _referred_holes(size: int) -> bytes:
    count = size // 8
    return HEADER + array(holed(2 * count, dict.fromkeys(range(count), b"0")), *[again(1)] * (size // 10))


def _deep_and_wide(size: int) -> bytes:
    depth = 200
    return HEADER + b"A\x01" * depth + array(*[b"0"] * (size - 8 * depth)) + b"$\0\x01" * depth


VALUES: dict[str, Maker] = {
    "an expression of classes that ignore case": _expression("[\x00-\U0010ffff]"),
    "an expression of alternatives": _expression("a|b"),
    "an expression of groups": _expression("("),
    "an expression of quantifiers": _expression("(?:a{1,5}){1,5}"),
    "nested arrays": _repeated(b"A\x01"),
    "nested objects": _repeated(b'o"\x01a'),
    "nested maps": _repeated(b";"),
    "nested errors": _repeated(b"rc"),
    "padding": _repeated(b"\0"),
    "a map of bigints of one hash": _map,
    "a set of bigints of one hash": _set,
    "a bigint": lambda size: HEADER + b"Z" + number((size - 8) << 1) + b"\x77" * (size - 8),
    "a boxed bigint": lambda size: HEADER + b"z" + number((size - 8) << 1) + b"\x77" * (size - 8),
    "a bigint as a key": lambda size: HEADER + b";Z" + number((size - 8) << 1) + b"\x77" * (size - 8) + b"0:\x02",
    "a number without an end": lambda size: HEADER + b"z" + b"\xff" * size,
    "a length without an end": lambda size: HEADER + b"A" + b"\xff" * size,
    "empty objects": _many(b"o{\0"),
    "empty maps": _many(b";:\0"),
    "empty sets": _many(b"',\0"),
    "errors": _many(b"r."),
    "dates": _many(b"D" + struct.pack("<d", 1e12)),
    "numbers that are none": _many(b"N" + struct.pack("<d", float("nan"))),
    "holes": _many(b"-"),
    "nulls": _many(b"0"),
    "buffers that say they may become large": _many(b"~\x01" + number(2**31) + b"a"),
    "the longest array, of one item": lambda _: HEADER + holed(2**32 - 1, {2**32 - 2: b"0"}),
    "the longest arrays": _many(holed(2**32 - 1, {2**32 - 2: b"_"})),
    "an array of scattered items": lambda size: (
        HEADER + holed(2**32 - 1, {at * 400_001: b"0" for at in range(size // 8)})
    ),
    "an array that is half holes": lambda size: HEADER + holed(size // 2, {at * 2: b"0" for at in range(size // 8)}),
    "a view of more than there is": lambda _: HEADER + b"B\x04abcdVW\0" + number(2**40) + b"\0",
    "arrays of arrays of one": _laughs(array(*[b"0"] * 100), lambda index, width: array(*[again(index)] * width)),
    "arrays with holes of one": _laughs(holed(101, {1: b"0"}), lambda index, width: array(*[again(index)] * width)),
    "maps of maps of one": _laughs(
        b";:\0",
        lambda index, width: (
            b";" + b"".join(b"U" + number(at) + again(index) for at in range(width)) + b":" + number(2 * width)
        ),
    ),
    "one long text again and again": _referred(b"o" + text(b"a") + text(b"x" * 10_000) + b"{\x01", 1),
    "one long name again and again": _referred(b"o" + text(b"x" * 10_000) + b"0{\x01", 1),
    "one boxed text again and again": _referred(b"s" + text(b"x" * 10_000), 1),
    "one expression again and again": _referred(b"R" + text(b"x" * 10_000) + b"\0", 1),
    "one stack again and again": _referred(b"rs" + text(b"x" * 10_000) + b".", 1),
    "one view again and again": _referred(b"B" + number(10_000) + b"x" * 10_000 + b"Vb\0" + number(10_000) + b"\0", 2),
    "one array with holes again and again": _referred_holes,
    "many items at a great depth": _deep_and_wide,
}
