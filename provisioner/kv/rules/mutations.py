"""What an atomic write does to entries. Pure: stores look up, this decides, stores put down.

Everything is decided before anything is written, so a write that fails leaves nothing behind. What it cannot do it says
in the words of Deno's own engine: over KV Connect programs see them, and some compare them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from provisioner.kv.codec import value as values
from provisioner.kv.errors import Malformed, OutOfRange, TypeMismatch
from provisioner.kv.model import U64_MAX, BigInt, Encoding, KvU64, Mutation, MutationKind

_NUMBERS = (b"I", b"U", b"N", b"Z")  # the tags of numbers and bigints; boxed ones do not count

_SHORT: Final = 256  # bytes

Stored: TypeAlias = tuple[bytes, int]  # bytes and encoding
Lookup: TypeAlias = Callable[[bytes], Stored | None]


class Effect(NamedTuple):
    """What an entry becomes: absent if `value` is None. `expire_at` in milliseconds since 1970, or -1."""

    key: bytes
    value: bytes | None
    encoding: int = 0
    expire_at: int = -1


def effects(mutations: tuple[Mutation, ...], lookup: Lookup, versionstamp: bytes) -> list[Effect]:
    """What the mutations come to, in order. Raises TypeMismatch, OutOfRange."""
    done: list[Effect] = []
    for mutation in mutations:
        kind = mutation.kind
        if kind is MutationKind.SET:
            done.append(Effect(mutation.key, mutation.value, mutation.encoding, mutation.expire_at))
        elif kind is MutationKind.DELETE:
            done.append(Effect(mutation.key, None))
        elif kind is MutationKind.SET_VERSIONSTAMPED:
            key = mutation.key + suffix(versionstamp)
            done.append(Effect(key, mutation.value, mutation.encoding, mutation.expire_at))
        else:
            value, encoding = _computed(mutation, _current(mutation.key, done, lookup))
            done.append(Effect(mutation.key, value, encoding))
    return done


def suffix(versionstamp: bytes) -> bytes:
    """The key part that a versionstamped key ends with: a string of its 20 digits."""
    return b"\x02" + versionstamp.hex().encode() + b"\0"


def _current(key: bytes, done: list[Effect], lookup: Lookup) -> Stored | None:
    for effect in reversed(done):
        if effect.key == key:
            return None if effect.value is None else (effect.value, effect.encoding)
    return lookup(key)


def _computed(mutation: Mutation, stored: Stored | None) -> Stored:
    name = mutation.kind.value
    if mutation.kind is MutationKind.SUM and mutation.encoding != Encoding.LE64:
        return _sum(mutation, stored)
    if mutation.encoding != Encoding.LE64:
        raise TypeMismatch(f"Failed to perform '{name}' mutation on a non-U64 operand")
    if stored is None:
        return mutation.value, Encoding.LE64
    if stored[1] != Encoding.LE64:
        raise TypeMismatch(f"Failed to perform '{name}' mutation on a non-U64 value in the database")
    if len(stored[0]) != 8:
        raise Malformed("a KvU64 has 8 bytes")
    old, operand = (int.from_bytes(data, "little") for data in (stored[0], mutation.value))
    if mutation.kind is MutationKind.SUM:
        new = (old + operand) & U64_MAX
    else:
        new = min(old, operand) if mutation.kind is MutationKind.MIN else max(old, operand)
    return new.to_bytes(8, "little"), Encoding.LE64


def _sum(mutation: Mutation, stored: Stored | None) -> Stored:
    """The sum of JavaScript numbers or bigints, within bounds."""
    operand = _parameter(mutation.value, mutation.encoding)
    low, high = (_parameter(bound, Encoding.V8) if bound else None for bound in (mutation.sum_min, mutation.sum_max))
    for bound in (low, high):
        if bound is not None and _kind(bound) != _kind(operand):
            raise TypeMismatch("Min/max parameters have different types than the operand")
    if stored is None:
        return _encoded(operand)
    old = _number(*stored)
    if type(old) is KvU64:
        bounded = low is not None or high is not None or mutation.sum_clamp
        if bounded or not isinstance(operand, BigInt) or not 0 <= operand <= U64_MAX:
            raise TypeMismatch(f"Cannot sum KvU64 with {_kind(operand)}")
        return ((int(old) + int(operand)) & U64_MAX).to_bytes(8, "little"), Encoding.LE64
    if _kind(old) != _kind(operand):
        raise TypeMismatch(f"Cannot sum {_kind(old)} with {_kind(operand)}")
    result = BigInt(int(old) + int(operand)) if isinstance(old, BigInt) else float(old) + float(operand)
    if low is not None and result < low:
        result = _clamped(low, mutation)
    if high is not None and result > high:
        result = _clamped(high, mutation)  # last, so that it is the one that holds where the bounds cross
    return _encoded(result)


def _clamped(bound: float, mutation: Mutation) -> float:
    if not mutation.sum_clamp:
        raise OutOfRange("The result of a Sum operation would exceed its range limit")
    return bound


def _kind(number: int | float) -> str:
    return "BigInt" if isinstance(number, BigInt) else "KvU64" if isinstance(number, KvU64) else "Number"


def _parameter(data: bytes, encoding: int) -> int | float:
    """An operand or a bound of a sum, which is a V8 value."""
    try:
        return _number(data, encoding)
    except TypeMismatch as error:
        raise TypeMismatch("Some of the parameters are not valid V8 values") from error


def _number(data: bytes, encoding: int) -> int | float:
    """A value that is not a number is not read just to report that, unless it is short: it may be anything."""
    plain = encoding == Encoding.LE64 or (encoding == Encoding.V8 and data[2:3] in _NUMBERS)
    if not plain and len(data) > _SHORT:
        raise TypeMismatch("unsupported value type")
    try:
        number = values.decode(data, encoding)
    except Malformed as error:
        raise TypeMismatch("invalid v8 value") from error
    if not plain or not isinstance(number, (int, float)):
        raise TypeMismatch("unsupported value type")
    return number


def _encoded(number: int | float) -> Stored:
    if _kind(number) == "Number":
        return values.sum_of_numbers(float(number)), Encoding.V8
    return values.sum_of_bigints(int(number)), Encoding.V8
