"""Python values as stored: V8 bytes, or eight bytes of a KvU64, or raw bytes; with the number of the encoding."""

from __future__ import annotations

import struct
from typing import Any, Final

from provisioner.kv.codec import v8_reader, v8_writer
from provisioner.kv.errors import Malformed, ValueInvalid
from provisioner.kv.model import Encoding, KvU64

_V8, _LE64, _BYTES = int(Encoding.V8), int(Encoding.LE64), int(Encoding.BYTES)
# ArithmeticError: an infinite length, or a bigint that is a key and that no float can hold.
_FAILURES: Final = (
    *(v8_reader.Broken, ValueInvalid, IndexError, ValueError, struct.error, RecursionError, TypeError, ArithmeticError),
)
_pack_u64 = struct.Struct("<Q").pack


def encode(value: object) -> tuple[bytes, int]:
    """The bytes and the encoding. Raises ValueInvalid for what JavaScript has no value for."""
    kind = type(value)
    if kind is KvU64:
        return _pack_u64(value), _LE64
    if kind is bytes:
        return value, _BYTES  # type: ignore[return-value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), _BYTES
    return to_v8(value), _V8


def to_v8(value: object) -> bytes:
    """The V8 bytes of any value, which is how messages of the queue travel."""
    try:
        return v8_writer.dumps(value)
    except v8_writer.Rare:
        from provisioner.kv.codec import v8_fallback_writer

        return v8_fallback_writer.dumps(value)
    except RecursionError as error:
        raise ValueInvalid("the value is nested too deeply") from error


def decode(data: bytes, encoding: int, ordered: bool = False) -> Any:
    """The value. Raises Malformed, whose text lacks the key: who knows the key adds it.

    With `ordered`, sets are ones of v8serialize, which keep JavaScript's order.
    """
    if encoding == _V8:
        return from_v8(data, ordered)
    if encoding == _LE64:
        if type(data) is not bytes or len(data) != 8:
            raise Malformed(f"a KvU64 has 8 bytes, not {len(data)}")
        return KvU64(int.from_bytes(data, "little"))
    if encoding == _BYTES:
        if type(data) is not bytes:
            raise Malformed("another program stored text where bytes belong")
        return data
    raise Malformed(f"the value encoding {encoding} is unknown")


def from_v8(data: bytes, ordered: bool = False) -> Any:
    try:
        return v8_reader.loads(data, ordered)
    except v8_writer.Rare:
        pass
    except _FAILURES as error:
        raise _malformed(error) from error
    from provisioner.kv.codec import v8_fallback_reader

    try:
        return v8_fallback_reader.loads(data, ordered)
    except _FAILURES as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> Malformed:
    if isinstance(error, RecursionError):
        return Malformed("the value is nested too deeply to read. Raise sys.setrecursionlimit to read it")
    if isinstance(error, ValueInvalid):
        return Malformed(str(error))
    return Malformed("the value is not what V8 serializes")


def sum_of_numbers(number: float) -> bytes:
    """A JavaScript number as Deno stores sums: always with eight bytes, even if V8 itself uses fewer."""
    return v8_writer.HEADER + b"N" + struct.pack("<d", number)


def sum_of_bigints(number: int) -> bytes:
    """A bigint as Deno stores sums: in as few bytes as it needs, where V8 itself takes eight at a time."""
    size = (number.bit_length() + 7) // 8 or 1
    out = bytearray(v8_writer.HEADER + b"Z")
    v8_writer.varint(out, size << 1 | (number < 0))
    return bytes(out + abs(number).to_bytes(size, "little"))
