"""What V8 serialized, as Python values. Types that Python lacks are Rare, and left to the general library."""

from __future__ import annotations

import datetime
import struct
from typing import Any, Final

from provisioner.kv.codec import collisions
from provisioner.kv.codec.collisions import Collisions
from provisioner.kv.codec.v8_writer import EPOCH, MILLISECOND, REGEX_FLAGS, Rare
from provisioner.kv.errors import ValueInvalid
from provisioner.kv.model import SAFE_INTEGER, UNDEFINED, BigInt, JSDate, RegExp

OLDEST: Final = 13
LATEST: Final = 16
_ALL_FLAGS: Final = sum(REGEX_FLAGS.values())
_DAY_MS: Final = 86_400_000
_EARLIEST: Final = (datetime.datetime.min.replace(tzinfo=datetime.UTC) - EPOCH) // MILLISECOND
_NEXT: Final = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - EPOCH) // MILLISECOND
_unpack_double: Final = struct.Struct("<d").unpack_from
_UNFINISHED: Final = object()  # a set or a buffer, while what it will be in Python is not known


class Broken(Exception):  # noqa: N818 becomes Malformed where the key is known
    """V8 has not written these bytes."""


def loads(data: bytes, ordered: bool = False) -> Any:
    """The value of V8 bytes. Raises Rare, and Broken for what V8 cannot have written.

    Sets that must be `ordered`, as JavaScript's are, are Rare: Python's forget it.
    """
    if len(data) < 3 or data[0] != 0xFF or not OLDEST <= data[1] <= LATEST:
        raise Broken
    tag = data[2]
    if tag == 0x22 and data[3] < 128:
        size = data[3]
        if len(data) < 4 + size:
            raise Broken
        return data[4 : 4 + size].decode("latin-1")
    return _Reader(data, ordered).value()


def number(value: float) -> int | float:
    """As an int where JavaScript holds an exact integer; minus zero stays what it is."""
    if value.is_integer() and -SAFE_INTEGER <= value <= SAFE_INTEGER and (value or str(value)[0] != "-"):
        return int(value)
    return value


def date(milliseconds: float) -> datetime.datetime | JSDate:
    if _EARLIEST <= milliseconds <= _NEXT:
        return EPOCH + int(milliseconds) * MILLISECOND
    return JSDate(milliseconds)


def regex(source: str, flags: int) -> RegExp:
    """Not compiled: see `RegExp`."""
    if flags & ~_ALL_FLAGS:
        raise Broken
    try:
        return RegExp(source, "".join(letter for letter, bit in REGEX_FLAGS.items() if flags & bit))
    except ValueInvalid as error:
        raise Broken from error


def gathered(items: list[Any]) -> Any:
    """A set of these, or where Python's would lose some (1 and True, NaN, objects) one as JavaScript's."""
    collisions.checked(items)
    try:
        plain = set(items)
    except TypeError:
        plain = set()
    if len(plain) == len(items) and not any(item != item for item in items):
        return plain
    from v8serialize.jstypes import JSSet

    return JSSet(items)


class _Reader:
    __slots__ = ("at", "data", "objects", "ordered")

    def __init__(self, data: bytes, ordered: bool) -> None:
        self.data = data
        self.ordered = ordered
        self.at = 2
        self.objects: list[Any] = []

    def value(self) -> Any:
        data = self.data
        tag = data[self.at]
        self.at += 1
        if tag == 0x22:
            return self._bytes(self._varint()).decode("latin-1")
        if tag == 0x49:
            number = self._varint()
            return number >> 1 if not number & 1 else -(number >> 1) - 1
        return self._after(tag)

    def _after(self, tag: int) -> Any:
        reader = _READERS.get(tag)
        if reader is None:
            raise Rare
        return reader(self)

    def _varint(self) -> int:
        data = self.data
        byte = data[self.at]
        self.at += 1
        if byte < 128:
            return byte
        number = byte & 127
        shift = 7
        while True:
            byte = data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number & 0xFFFFFFFF
            shift += 7
            if shift > 35:
                raise Broken

    def _bytes(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise Broken
        self.at += size
        return piece

    def _double(self) -> float:
        number: float = _unpack_double(self.data, self.at)[0]
        self.at += 8
        return number

    def _two_byte(self) -> str:
        return self._bytes(self._varint()).decode("utf-16-le", "surrogatepass")

    def _utf8(self) -> str:
        return self._bytes(self._varint()).decode()

    def _bigint(self) -> BigInt:
        head = self._varint()
        magnitude = int.from_bytes(self._bytes(head >> 1), "little")
        return BigInt(-magnitude if head & 1 else magnitude)

    def _ends(self, tag: int) -> bool:
        """Whether the next tag is this one, which then is behind us."""
        while self.data[self.at] == 0:
            self.at += 1
        if self.data[self.at] == tag:
            self.at += 1
            return True
        return False

    def _properties(self, into: dict[str, Any], end: int) -> None:
        """Names and values until the tag `end` and their count."""
        count = 0
        while not self._ends(end):
            key = self.value()
            if type(key) is not str:
                if isinstance(key, (bool, BigInt)) or not isinstance(key, (int, float)):
                    raise Broken
                key = str(key)
            into[key] = self.value()
            count += 1
        if self._varint() != count:
            raise Broken

    def _object(self) -> dict[str, Any]:
        into: dict[str, Any] = {}
        self.objects.append(into)
        self._properties(into, 0x7B)
        return into

    def _array(self) -> list[Any]:
        into: list[Any] = []
        self.objects.append(into)
        size = self._varint()
        if size > len(self.data):
            raise Broken
        for _ in range(size):
            into.append(self.value())
        if not self._ends(0x24):
            raise Rare
        if self._varint() != 0 or self._varint() != size:
            raise Broken
        return into

    def _sparse(self) -> list[Any]:
        """V8 writes an array that ever had a hole like this; a list if it has none now."""
        into: list[Any] = []
        self.objects.append(into)
        size = self._varint()
        while not self._ends(0x40):
            if self.value() != len(into):
                raise Rare
            into.append(self.value())
        if self._varint() != len(into):
            raise Broken
        if self._varint() != size:
            raise Broken
        if size != len(into):
            raise Rare
        return into

    def _map(self) -> Any:
        from v8serialize.jstypes import JSMap

        into: JSMap[Any, Any] = JSMap()
        self.objects.append(into)
        collisions = Collisions()
        count = 0
        while not self._ends(0x3A):
            key = self.value()
            collisions.add(key)
            into[key] = self.value()
            count += 2
        if self._varint() != count:
            raise Broken
        return into

    def _set(self) -> Any:
        if self.ordered:
            raise Rare
        number = len(self.objects)
        self.objects.append(_UNFINISHED)
        items: list[Any] = []
        while not self._ends(0x2C):
            items.append(self.value())
        if self._varint() != len(items):
            raise Broken
        self.objects[number] = gathered(items)
        return self.objects[number]

    def _reference(self) -> Any:
        number = self._varint()
        if number >= len(self.objects):
            raise Broken
        if (value := self.objects[number]) is _UNFINISHED:
            raise Rare
        return value

    def _date(self) -> Any:
        value = date(self._double())
        self.objects.append(value)
        return value

    def _regex(self) -> Any:
        source = self.value()
        if not isinstance(source, str):
            raise Broken
        value = regex(source, self._varint())
        self.objects.append(value)
        return value

    def _buffer(self) -> bytes:
        """A Uint8Array is bytes; any other view, and a buffer alone, is Rare."""
        data = self._bytes(self._varint())
        if self.data[self.at : self.at + 2] != b"VB":
            raise Rare
        self.at += 2
        offset = self._varint()
        size = self._varint()
        if self.data[1] >= 14 and self._varint() != 0:
            raise Rare
        if offset + size > len(data):
            raise Broken
        view = data[offset : offset + size]
        self.objects += (_UNFINISHED, view)
        return view

    def _node_buffer(self) -> bytes:
        """Node's form of a Uint8Array (1) or a Buffer (10); its other views are Rare."""
        if self._varint() not in (1, 10):
            raise Rare
        view = self._bytes(self._varint())
        self.objects.append(view)
        return view


_READERS: Final = {
    0x5C: _Reader._node_buffer,
    0x00: _Reader.value,
    0x22: lambda reader: reader._bytes(reader._varint()).decode("latin-1"),
    0x63: _Reader._two_byte,
    0x53: _Reader._utf8,
    0x4E: lambda reader: number(reader._double()),
    0x55: _Reader._varint,
    0x54: lambda _: True,
    0x46: lambda _: False,
    0x30: lambda _: None,
    0x5F: lambda _: UNDEFINED,
    0x5A: _Reader._bigint,
    0x6F: _Reader._object,
    0x41: _Reader._array,
    0x61: _Reader._sparse,
    0x3B: _Reader._map,
    0x27: _Reader._set,
    0x5E: _Reader._reference,
    0x44: _Reader._date,
    0x52: _Reader._regex,
    0x42: _Reader._buffer,
}
