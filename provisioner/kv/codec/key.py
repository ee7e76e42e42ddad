"""Keys as bytes: a subset of FoundationDB's tuple layer, whose order as bytes is the order of the keys.

Also the ranges that a selector stands for, and the cursors that continue in one.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from provisioner.kv import limits
from provisioner.kv.errors import CursorInvalid, KeyInvalid, LimitExceeded, Malformed
from provisioner.kv.model import SAFE_INTEGER, BigInt, KeyLike, KvKey, KvKeyPart, ReadRange

_BYTES, _STRING, _ZERO, _DOUBLE, _FALSE, _TRUE = 0x01, 0x02, 0x14, 0x21, 0x26, 0x27
_LONG_NEGATIVE, _LONG_POSITIVE = 0x0B, 0x1D
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_NAN: Final = bytes((_DOUBLE,)) + b"\xff\xf8" + bytes(6)
_pack_double = struct.Struct(">d").pack
_unpack_double = struct.Struct(">d").unpack
_unpack_double_from = struct.Struct(">d").unpack_from


def encode(key: KeyLike) -> bytes:
    """The bytes of a key. Raises KeyInvalid for what cannot be a key; an empty key has no bytes."""
    if type(key) is not tuple and type(key) is not list and not _is_sequence(key):
        raise KeyInvalid(f"a key is a sequence of parts, not {type(key).__name__}. Write it as a tuple: ({key!r},)")
    out = []
    for part in key:
        kind = type(part)
        if kind is str:
            out.append(_string(part))  # type: ignore[arg-type]
        elif kind is int and 0 <= part <= SAFE_INTEGER:  # type: ignore[operator]
            out.append(b"\x21" + _pack_double(-float(part)))  # its sign bit is flipped
        else:
            out.append(_encode_part(part))
    return b"".join(out)


def as_stored(key: KeyLike) -> KvKey | None:
    """The key as decoding its bytes would give it, if that can be said without decoding."""
    for part in key:
        kind = type(part)
        if kind is str:
            if not part.isascii():  # type: ignore[union-attr]
                return None
        elif kind is not int and kind is not bytes and kind is not bool:
            return None
    return tuple(key)  # type: ignore[arg-type]


def _is_sequence(key: object) -> bool:
    return isinstance(key, Sequence) and not isinstance(key, (str, bytes, bytearray, memoryview))


def _string(part: str) -> bytes:
    try:
        data = part.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: Deno stores U+FFFD in its place
        data = part.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    if b"\0" in data:
        data = data.replace(b"\0", b"\0\xff")
    return b"\x02" + data + b"\0"


def _encode_part(part: object) -> bytes:
    if isinstance(part, str):
        return _string(part)
    if part is True:
        return b"\x27"
    if part is False:
        return b"\x26"
    if isinstance(part, int) and _is_bigint(part):
        return _bigint(int(part))
    if isinstance(part, int):
        if -SAFE_INTEGER <= part <= SAFE_INTEGER:
            return _double(float(part))
        raise KeyInvalid(f"{part} in a key is not an exact JavaScript number. Use BigInt({part}) for a bigint")
    if isinstance(part, float):
        return _double(part)
    if isinstance(part, (bytes, bytearray, memoryview)):
        return b"\x01" + bytes(part).replace(b"\0", b"\0\xff") + b"\0"
    raise KeyInvalid(f"a key has parts of bytes, str, int, float, BigInt and bool, not {type(part).__name__}")


def _is_bigint(part: int) -> bool:
    return isinstance(part, BigInt) or type(part).__name__ == "JSBigInt"


def _double(number: float) -> bytes:
    if number != number:
        return _NAN
    bits = int.from_bytes(_pack_double(number), "big")
    bits ^= _ALL if bits & _SIGN else _SIGN
    return b"\x21" + bits.to_bytes(8, "big")


def _bigint(number: int) -> bytes:
    magnitude = abs(number)
    size = (magnitude.bit_length() + 7) // 8
    if size > 255:
        raise KeyInvalid("a bigint in a key has at most 255 bytes")
    if number < 0:
        magnitude ^= (1 << 8 * size) - 1
        head = bytes((_ZERO - size,)) if size <= 8 else bytes((_LONG_NEGATIVE, size ^ 0xFF))
    else:
        head = bytes((_ZERO + size,)) if size <= 8 else bytes((_LONG_POSITIVE, size))
    return head + magnitude.to_bytes(size, "big")


def decode(data: bytes, at: int = 0, known: KvKey = ()) -> KvKey:
    """The key of these bytes; from byte `at` on, where the parts before it are `known`. Raises Malformed."""
    parts: list[KvKeyPart] = list(known)
    end = len(data)
    while at < end:
        tag = data[at]
        if tag in (_STRING, _BYTES):
            stop = data.find(b"\0", at + 1)
            if data[stop + 1 : stop + 2] == b"\xff":
                stop, piece = _escaped(data, at + 1)
            else:
                piece = data[at + 1 : stop]
            if stop < 0:
                raise _malformed(data)
            if tag == _STRING:
                try:
                    parts.append(piece.decode())
                except UnicodeDecodeError as error:
                    raise _malformed(data) from error
            else:
                parts.append(piece)
            at = stop + 1
        elif tag == _DOUBLE and at + 9 <= end and data[at + 1] > 127:
            number = -_unpack_double_from(data, at + 1)[0]  # its sign bit is flipped
            parts.append(int(number) if number <= SAFE_INTEGER and number.is_integer() else number)
            at += 9
        else:
            part, at = _decode_part(data, tag, at + 1)
            parts.append(part)
    return tuple(parts)


def _escaped(data: bytes, start: int) -> tuple[int, bytes]:
    """The end of the string that starts at `start` (-1: none), and its bytes."""
    stop = data.find(b"\0", start)
    while stop >= 0 and data[stop + 1 : stop + 2] == b"\xff":
        stop = data.find(b"\0", stop + 2)
    return stop, data[start:stop].replace(b"\0\xff", b"\0")


def _decode_part(data: bytes, tag: int, at: int) -> tuple[KvKeyPart, int]:
    """The part that has this tag and whose content starts at `at`, and where the next part starts."""
    if tag == _DOUBLE:
        return _decode_double(_take(data, at, 8)), at + 8
    if tag in (_TRUE, _FALSE):
        return tag == _TRUE, at
    if _ZERO <= tag <= _ZERO + 8:
        size = tag - _ZERO
        return BigInt.from_bytes(_take(data, at, size), "big"), at + size
    if _ZERO - 8 <= tag < _ZERO:
        size = _ZERO - tag
        return BigInt(-_inverted(_take(data, at, size))), at + size
    if tag == _LONG_POSITIVE:
        size = _take(data, at, 1)[0]
        return BigInt.from_bytes(_take(data, at + 1, size), "big"), at + 1 + size
    if tag == _LONG_NEGATIVE:
        size = _take(data, at, 1)[0] ^ 0xFF
        return BigInt(-_inverted(_take(data, at + 1, size))), at + 1 + size
    raise _malformed(data)


def _take(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) != size:
        raise _malformed(data)
    return piece


def _inverted(piece: bytes) -> int:
    return int.from_bytes(piece, "big") ^ ((1 << 8 * len(piece)) - 1)


def _decode_double(piece: bytes) -> int | float:
    bits = int.from_bytes(piece, "big")
    bits ^= _SIGN if bits & _SIGN else _ALL
    number: float = _unpack_double(bits.to_bytes(8, "big"))[0]
    if number.is_integer() and -SAFE_INTEGER <= number <= SAFE_INTEGER and bits != _SIGN:
        return int(number)
    return number


def _malformed(data: bytes) -> Malformed:
    shown = data[: limits.KEY_READ].hex() + ("…" if len(data) > limits.KEY_READ else "")
    return Malformed(f"the stored key x'{shown}' is not a Deno KV key. Delete its row with SQLite to remove it")


class Selector(NamedTuple):
    """What a list runs over, as bytes: from `start` to before `end`. Cursors leave away `common`, their prefix.

    `bounds` are the start and the end that the caller named; a cursor must not lead out of them.
    """

    start: bytes
    end: bytes
    common: bytes
    bounds: tuple[bytes | None, bytes | None]

    @classmethod
    def of(cls, prefix: KeyLike | None, start: KeyLike | None, end: KeyLike | None) -> Selector:
        """The selector of a prefix, of a prefix with a start or an end in it, or of a start and an end."""
        first = None if start is None else encode(start)
        last = None if end is None else encode(end)
        if prefix is None:
            if first is None or last is None:
                raise KeyInvalid("a list takes a prefix, or both start and end")
            if first > last:
                raise KeyInvalid("the start key of a list is greater than its end key")
            return cls(first, last, _common_prefix(first, last), (first, last))
        if first is not None and last is not None:
            raise KeyInvalid("a list by prefix takes a start or an end, not both")
        common = encode(prefix)
        for name, key in (("start", first), ("end", last)):
            if key is not None and (not key.startswith(common) or len(key) == len(common)):
                raise KeyInvalid(f"the {name} key of a list is not in its prefix")
        return cls(
            common + b"\0" if first is None else first,
            common + b"\xff" if last is None else last,
            common,
            (first, last),
        )

    def cursor(self, key: bytes) -> str:
        """The cursor that continues behind `key`."""
        return base64.urlsafe_b64encode(key[len(self.common) :]).decode()

    def read(self, limit: int, reverse: bool, cursor: str | None) -> ReadRange:
        """The range to read next. Raises CursorInvalid for an invalid cursor or one outside of the selector."""
        start, end = self.start, self.end
        if cursor is not None:
            boundary = self.common + _decoded(cursor)
            if reverse:
                end = boundary
            else:
                start = boundary + b"\0"
            lowest, highest = self.bounds
            if (lowest is not None and start < lowest) or (highest is not None and end > highest):
                raise CursorInvalid("the cursor lies outside of what is listed")
        for key in (start, end):
            check_read(key)
        return ReadRange(start, end, limit, reverse)


def _common_prefix(one: bytes, other: bytes) -> bytes:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:index]
    return min(one, other, key=len)


def _decoded(cursor: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(cursor)
    except (binascii.Error, ValueError, TypeError) as error:
        raise CursorInvalid(f"{cursor!r} is not a cursor") from error
    if base64.urlsafe_b64encode(data).decode() != cursor:
        raise CursorInvalid(f"{cursor!r} is not a cursor")
    return data


def point(key: bytes) -> ReadRange:
    """The range of exactly one key."""
    end = key + b"\0"
    check_read(end)
    return ReadRange(key, end, 1)


def check_read(key: bytes) -> None:
    if len(key) > limits.KEY_READ:
        raise LimitExceeded(f"a key to read has at most {limits.KEY_READ} bytes, not {len(key)}")


def check_written(key: bytes) -> int:
    """The size of a key that may be written."""
    if not key:
        raise KeyInvalid("a key to write has at least one part")
    if len(key) > limits.KEY_WRITTEN:
        raise LimitExceeded(f"a key to write has at most {limits.KEY_WRITTEN} bytes, not {len(key)}")
    return len(key)
