"""Python values as V8 serializes them, byte for byte where JavaScript could have made the same value.

V8's `value-serializer.cc` says what stands here: a tag of one byte before each value, sizes as varints, an index for
each object in the order of writing, by which it is referred to when it comes again.
"""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any, Final

from provisioner.kv.errors import ValueInvalid
from provisioner.kv.model import SAFE_INTEGER, UNDEFINED, BigInt, JSDate, KvU64, RegExp

# Deno 2.9 writes 16, where nothing that is written here differs. Every Deno and Node since 2022 reads 15.
HEADER: Final = b"\xff\x0f"
EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND: Final = datetime.timedelta(milliseconds=1)
REGEX_FLAGS: Final = {"g": 1, "i": 2, "m": 4, "y": 8, "u": 16, "s": 32, "d": 128, "v": 256}
_PATTERN_FLAGS: Final = (("i", re.IGNORECASE), ("m", re.MULTILINE), ("s", re.DOTALL))
_SMALL: Final = 2**31
_INDEX_END: Final = 2**32 - 1  # the first integer that is not an index of an array
_DIGITS: Final = frozenset("0123456789")
_pack_double: Final = struct.Struct("<d").pack


class Rare(Exception):  # noqa: N818 a message to the caller, not a failure
    """A value that only the general library writes or reads."""


def dumps(value: Any) -> bytes:
    """The V8 bytes of a value. Raises ValueInvalid, and Rare for types of the general library."""
    kind = type(value)
    if kind is str:
        out = bytearray(HEADER)
        _string(out, value)
    else:
        out = bytearray(HEADER)
        write(out, value, {})
    return bytes(out)


def write(out: bytearray, value: Any, seen: dict[int, int]) -> None:
    kind = type(value)
    if kind is str:
        _string(out, value)
    elif kind is int:
        _integer(out, value)
    elif kind is dict:
        _object(out, value, seen)
    elif kind is list or kind is tuple:
        _array(out, value, seen)
    else:
        _WRITERS.get(kind, _other)(out, value, seen)


def _other(out: bytearray, value: Any, seen: dict[int, int]) -> None:
    """A subclass of a type that is known; a type of the general library is Rare."""
    if type(value).__module__.startswith("v8serialize."):
        raise Rare
    if isinstance(value, re.Pattern):
        _pattern(out, value, seen)
        return
    for kind in type(value).__mro__[1:]:
        if (writer := _WRITERS.get(kind)) is not None:
            writer(out, value, seen)
            return
    raise ValueInvalid(f"a {type(value).__name__} has no JavaScript counterpart: {value!r:.60}")


def varint(out: bytearray, number: int) -> None:
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _string(out: bytearray, value: str) -> None:
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        data = value.encode("utf-16-le", "surrogatepass")
        tag = bytearray(b"c")
        varint(tag, len(data))
        if (len(out) + len(tag)) & 1:
            out.append(0)  # V8 reads two-byte characters in place, so they must be aligned
        out += tag
        out += data
        return
    out.append(0x22)
    size = len(data)
    if size < 128:
        out.append(size)
    else:
        varint(out, size)
    out += data


def _integer(out: bytearray, value: int) -> None:
    if -_SMALL <= value < _SMALL:
        out.append(0x49)
        number = value << 1 if value >= 0 else (-value << 1) - 1
        if number < 128:
            out.append(number)
        else:
            varint(out, number)
    elif -SAFE_INTEGER <= value <= SAFE_INTEGER:
        out.append(0x4E)
        out += _pack_double(value)
    else:
        raise ValueInvalid(f"{value} is not an exact JavaScript number. Use BigInt({value}) for a bigint")


def is_small(value: float) -> bool:
    """Whether V8 holds this number as an integer of 32 bits."""
    return -_SMALL <= value < _SMALL and value == int(value) and (value != 0 or _pack_double(value)[7] == 0)


def _float(out: bytearray, value: float, _seen: object = None) -> None:
    if is_small(value):
        _integer(out, int(value))
    else:
        out.append(0x4E)
        out += _pack_double(value)


def _bigint(out: bytearray, value: int, _seen: object = None) -> None:
    out.append(0x5A)
    magnitude = abs(int(value))
    size = (magnitude.bit_length() + 63) // 64 * 8
    varint(out, size << 1 | (value < 0))
    out += magnitude.to_bytes(size, "little")


def _refer(out: bytearray, value: object, seen: dict[int, int]) -> bool:
    number = seen.get(id(value))
    if number is None:
        seen[id(value)] = len(seen)
        return False
    out.append(0x5E)
    varint(out, number)
    return True


def _object(out: bytearray, value: dict[Any, Any], seen: dict[int, int]) -> None:
    for key in value:
        if not isinstance(key, str):
            _map(out, value, seen)
            return
    if _refer(out, value, seen):
        return
    out.append(0x6F)
    for key, item in properties(value):
        if type(key) is str:
            _string(out, key)
        else:
            write(out, key, seen)
        write(out, item, seen)
    out.append(0x7B)
    varint(out, len(value))


def properties(value: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """Names and values in JavaScript's order: first the indexes of an array, as ints, then the others as they came."""
    if _DIGITS.isdisjoint(key[:1] for key in value):
        return value.items()
    indexes = sorted(int(key) for key in value if _is_index(key))
    others = ((key, item) for key, item in value.items() if not _is_index(key))
    return chain(((index, value[str(index)]) for index in indexes), others)


def _is_index(key: str) -> bool:
    """Whether JavaScript takes this name of a property for a number, and sorts it before the others."""
    return key.isdecimal() and key.isascii() and (key[0] != "0" or key == "0") and int(key) < _INDEX_END


def _map(out: bytearray, value: dict[Any, Any], seen: dict[int, int]) -> None:
    if _refer(out, value, seen):
        return
    out.append(0x3B)
    for key, item in value.items():
        write(out, key, seen)
        write(out, item, seen)
    out.append(0x3A)
    varint(out, len(value) * 2)


def _set(out: bytearray, value: Collection[Any], seen: dict[int, int]) -> None:
    if _refer(out, value, seen):
        return
    out.append(0x27)
    for item in value:
        write(out, item, seen)
    out.append(0x2C)
    varint(out, len(value))


def _array(out: bytearray, value: Collection[Any], seen: dict[int, int]) -> None:
    if _refer(out, value, seen):
        return
    out.append(0x41)
    varint(out, len(value))
    if are_doubles(value):
        for item in value:
            out.append(0x4E)
            out += _pack_double(item)
    else:
        for item in value:
            write(out, item, seen)
    out += b"$\0"
    varint(out, len(value))


def are_doubles(value: Collection[Any]) -> bool:
    """Whether V8 holds all of an array as doubles: numbers only, and one of them no integer of 32 bits."""
    doubles = False
    for item in value:
        kind = type(item)
        if kind is float:
            doubles = doubles or not is_small(item)
        elif kind is not int or not -SAFE_INTEGER <= item <= SAFE_INTEGER:
            return False
        elif not doubles:
            doubles = not -_SMALL <= item < _SMALL
    return doubles


def _buffer(out: bytearray, value: bytes | bytearray | memoryview, seen: dict[int, int]) -> None:
    """A Uint8Array: its buffer and a view of all of it. Each takes a number."""
    data = bytes(value)
    seen[-len(seen) - 1] = len(seen)
    seen[-len(seen) - 1] = len(seen)
    out.append(0x42)
    varint(out, len(data))
    out += data
    out += b"VB\0"
    varint(out, len(data))
    out.append(0)


def _date(out: bytearray, value: datetime.datetime, seen: dict[int, int]) -> None:
    if not _refer(out, value, seen):
        out.append(0x44)
        out += _pack_double(milliseconds(value))


def milliseconds(moment: datetime.datetime) -> int:
    """Since 1970, the fraction cut off as JavaScript's Date has none."""
    if moment.tzinfo is None:
        raise ValueInvalid(f"{moment!r} has no time zone, so it is not an instant. Add one, for example datetime.UTC")
    return (moment - EPOCH) // MILLISECOND


def _odd_date(out: bytearray, value: JSDate, seen: dict[int, int]) -> None:
    if not _refer(out, value, seen):
        out.append(0x44)
        out += _pack_double(value)


def _regex(out: bytearray, value: RegExp, seen: dict[int, int]) -> None:
    if not _refer(out, value, seen):
        out.append(0x52)
        _string(out, value.source)
        varint(out, sum(REGEX_FLAGS[flag] for flag in value.flags))


def _pattern(out: bytearray, value: re.Pattern[Any], seen: dict[int, int]) -> None:
    if not isinstance(value.pattern, str):
        raise ValueInvalid(f"{value!r} matches bytes; JavaScript's expressions match strings")
    if value.flags & (re.VERBOSE | re.ASCII | re.LOCALE):
        raise ValueInvalid(f"{value!r} has a flag that JavaScript lacks; IGNORECASE, MULTILINE and DOTALL are known")
    if not _refer(out, value, seen):
        flags = "".join(letter for letter, flag in _PATTERN_FLAGS if value.flags & flag)
        _regex(out, RegExp(value.pattern, flags), {})


def _u64(_out: bytearray, value: KvU64, _seen: object) -> None:
    raise ValueInvalid(f"{value!r} inside of another value. A KvU64 can only be stored alone; use BigInt({value})")


def _constant(tag: int) -> Callable[[bytearray, Any, Any], None]:
    return lambda out, _value, _seen: out.append(tag)


_WRITERS: Final[dict[type, Callable[[bytearray, Any, dict[int, int]], None]]] = {
    str: lambda out, value, _seen: _string(out, str(value)),
    KvU64: _u64,
    BigInt: _bigint,
    bool: lambda out, value, _seen: out.append(0x54 if value else 0x46),
    int: lambda out, value, _seen: _integer(out, int(value)),
    JSDate: _odd_date,
    float: _float,
    type(None): _constant(0x30),
    type(UNDEFINED): _constant(0x5F),
    dict: _object,
    list: _array,
    tuple: _array,
    set: _set,
    frozenset: _set,
    bytes: _buffer,
    bytearray: _buffer,
    memoryview: _buffer,
    datetime.datetime: _date,
    RegExp: _regex,
    re.Pattern: _pattern,
}
