"""What an atomic write does to entries. Pure: stores look up, this decides, stores put down.

Everything is decided before anything is written, so a write that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from provisioner.kv import value as values
from provisioner.kv.errors import Malformed, OutOfRange, TypeMismatch
from provisioner.kv.model import U64_MAX, BigInt, Encoding, KvU64, Mutation, MutationKind

_NUMBERS = (b"I", b"U", b"N", b"Z")  # the tags of numbers and bigints; boxed ones do not count

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
        raise TypeMismatch(f"{name} takes a KvU64 operand only")
    if stored is None:
        return mutation.value, Encoding.LE64
    if stored[1] != Encoding.LE64:
        raise TypeMismatch(f"{name} on a stored value that is no KvU64")
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
    operand = _operand(mutation.value, mutation.encoding)
    low, high = (_operand(bound, Encoding.V8) if bound else None for bound in (mutation.sum_min, mutation.sum_max))
    for bound in (low, high):
        if bound is not None and _kind(bound) is not _kind(operand):
            raise TypeMismatch("the bounds of a sum are of another kind than its operand")
    if stored is None:
        return _encoded(operand)
    old = _operand(*stored)
    if type(old) is KvU64:
        if (
            type(operand) is KvU64
            or not isinstance(operand, BigInt)
            or low is not None
            or high is not None
            or mutation.sum_clamp
        ):
            raise TypeMismatch(f"a sum of a stored KvU64 and a {_kind(operand).__name__}")
        if not 0 <= operand <= U64_MAX:
            raise TypeMismatch("a sum of a stored KvU64 and a bigint that is none")
        return ((int(old) + int(operand)) & U64_MAX).to_bytes(8, "little"), Encoding.LE64
    if _kind(old) is not _kind(operand):
        raise TypeMismatch(f"a sum of a stored {_kind(old).__name__} and a {_kind(operand).__name__}")
    result = BigInt(int(old) + int(operand)) if isinstance(old, BigInt) else float(old) + float(operand)
    if low is not None and result < low:
        result = _clamped(low, mutation)
    if high is not None and result > high:
        result = _clamped(high, mutation)  # last, so that it is the one that holds where the bounds cross
    return _encoded(result)


def _clamped(bound: float, mutation: Mutation) -> float:
    if not mutation.sum_clamp:
        raise OutOfRange("the sum leaves the bounds that it was given")
    return bound


def _kind(number: int | float) -> type:
    return BigInt if isinstance(number, BigInt) else KvU64 if isinstance(number, KvU64) else float


def _operand(data: bytes, encoding: int) -> int | float:
    if encoding == Encoding.V8 and data[2:3] not in _NUMBERS:
        raise TypeMismatch("sum met a value that is no number")
    try:
        number = values.decode(data, encoding)
    except Malformed as error:
        raise TypeMismatch("sum met a value that is no number") from error
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeMismatch(f"sum met a {type(number).__name__}, which is no number")
    return number


def _encoded(number: int | float) -> Stored:
    if _kind(number) is float:
        return values.sum_of_numbers(float(number)), Encoding.V8
    return values.sum_of_bigints(int(number)), Encoding.V8
