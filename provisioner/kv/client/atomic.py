"""An atomic operation, from a program's arguments to what a store takes. No input or output: both clients stand on this."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from provisioner.kv import limits
from provisioner.kv.codec import key as keys
from provisioner.kv.codec import value as values
from provisioner.kv.errors import KvError, LimitExceeded, OptionInvalid, ValueInvalid
from provisioner.kv.model import (
    COMMIT_VERSIONSTAMP,
    AtomicWrite,
    BigInt,
    Check,
    ChecksFailed,
    CommitFailed,
    CommitResult,
    Encoding,
    Enqueue,
    KeyLike,
    KeyToSet,
    KvEntry,
    KvU64,
    Mutation,
    MutationKind,
    Versionstamp,
)
from provisioner.kv.store import Outcome

LATEST_EXPIRY = 8_210_266_876_799_999  # milliseconds; what Deno's calendar ends with
Duration = datetime.timedelta | int


def committed(outcome: Outcome) -> CommitResult | CommitFailed:
    if isinstance(outcome, KvError):
        raise outcome
    if isinstance(outcome, ChecksFailed):
        return CommitFailed(outcome.indexes)
    return CommitResult(Versionstamp(outcome.versionstamp.hex()))


def milliseconds(duration: Duration, name: str) -> int:
    """A duration as a whole number of milliseconds."""
    if isinstance(duration, datetime.timedelta):
        duration = duration // datetime.timedelta(milliseconds=1)
    if isinstance(duration, bool) or not isinstance(duration, int) or duration < 0:
        raise OptionInvalid(f"{name} is a timedelta or a whole number of milliseconds, not negative: {duration!r}")
    return duration


def message(
    payload: object,
    now: int,
    delay: Duration = 0,
    backoff_schedule: Iterable[Duration] | None = None,
    keys_if_undelivered: Iterable[KeyLike] = (),
) -> Enqueue:
    wait = milliseconds(delay, "delay")
    if wait > limits.DELAY:
        raise OptionInvalid(f"delay is at most 30 days, not {delay!r}")
    backoff = None
    if backoff_schedule is not None:
        backoff = tuple(milliseconds(interval, "an interval of backoff_schedule") for interval in backoff_schedule)
        if len(backoff) > limits.BACKOFF_INTERVALS:
            raise OptionInvalid(f"backoff_schedule has at most {limits.BACKOFF_INTERVALS} intervals")
        if max(backoff, default=0) > limits.BACKOFF_INTERVAL:
            raise OptionInvalid("an interval of backoff_schedule is at most one hour")
    undelivered = tuple(keys.encode(key) for key in keys_if_undelivered)
    return Enqueue(values.to_v8(payload), now + wait, undelivered, backoff)


def lone_set(key: KeyToSet, value: object, expire_in: Duration | None, clock: Callable[[], int]) -> AtomicWrite:
    """What an Atomic with one `set` would write, without the collecting: a third of what a `set` costs."""
    mutation, expiry = _setting(key, value, expire_in)
    if expiry is not None:
        mutation = mutation._replace(expire_at=_expiry(clock() + expiry))
    keys.check_written(mutation.key)
    check_value(mutation.value)
    return AtomicWrite((), (mutation,))


def _setting(key: KeyToSet, value: object, expire_in: Duration | None) -> tuple[Mutation, int | None]:
    kind = MutationKind.SET
    if len(key) and key[-1] is COMMIT_VERSIONSTAMP:
        kind, key = MutationKind.SET_VERSIONSTAMPED, key[:-1]
    data, encoding = values.encode(value)
    expiry = None if expire_in is None else milliseconds(expire_in, "expire_in")
    return Mutation(kind, keys.encode(key), data, encoding), expiry  # type: ignore[arg-type]


def result_of(write: AtomicWrite, outcome: Outcome, expect: Callable[[int], None]) -> CommitResult | CommitFailed:
    """What the program gets, and the collector hears: not before, or it would look too early."""
    result = committed(outcome)
    for mutation in write.mutations:
        if mutation.expire_at >= 0 and result:
            expect(mutation.expire_at)
    return result


class Atomic:
    """Collects an atomic operation. Each method returns the same object, so that calls can be chained."""

    def __init__(self, clock: Callable[[], int], expect: Callable[[int], None]) -> None:
        self._clock = clock
        self._expect = expect
        self._checks: list[Check] = []
        self._mutations: list[tuple[Mutation, int | None]] = []
        self._enqueues: list[tuple[Any, ...]] = []

    def check(self, *entries: KvEntry[Any] | tuple[KeyLike, str | None]) -> Self:
        """Commit only if each of these entries, or pairs of key and versionstamp, is still as it is here.

        A versionstamp of None holds if the key is absent.
        """
        for found in entries:
            key, versionstamp = (found.key, found.versionstamp) if isinstance(found, KvEntry) else found
            self._checks.append(Check(keys.encode(key), _versionstamp(versionstamp)))
        return self

    def set(self, key: KeyToSet, value: object, *, expire_in: Duration | None = None) -> Self:
        """Store a value. A key that ends with COMMIT_VERSIONSTAMP gets the versionstamp of the commit there."""
        self._mutations.append(_setting(key, value, expire_in))
        return self

    def set_versionstamped(self, prefix: KeyLike, value: object, *, expire_in: Duration | None = None) -> Self:
        """Store a value under `prefix` followed by the versionstamp of the commit, a string of 20 digits."""
        return self.set((*prefix, COMMIT_VERSIONSTAMP), value, expire_in=expire_in)

    def delete(self, key: KeyLike) -> Self:
        self._mutations.append((Mutation(MutationKind.DELETE, keys.encode(key)), None))
        return self

    def sum(
        self,
        key: KeyLike,
        operand: float,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        clamp: bool = False,
    ) -> Self:
        """Add to what is stored; an absent key takes the operand.

        An int or KvU64 adds to a KvU64 and wraps around at 2**64; a float adds to a JavaScript number and a BigInt to
        a bigint, and there the result must lie within `minimum` and `maximum`, or becomes them if `clamp`.
        """
        data, encoding = _operand(operand)
        low, high = (b"" if bound is None else _operand(bound)[0] for bound in (minimum, maximum))
        if encoding == Encoding.LE64 and (low or high or clamp):
            raise OptionInvalid("the sum of a KvU64 takes no bounds. Give the operand as a float or a BigInt")
        mutation = Mutation(MutationKind.SUM, keys.encode(key), data, encoding, -1, low, high, clamp)
        self._mutations.append((mutation, None))
        return self

    def min(self, key: KeyLike, operand: int) -> Self:
        """Store the lesser of the stored KvU64 and the operand."""
        return self._u64(MutationKind.MIN, key, operand)

    def max(self, key: KeyLike, operand: int) -> Self:
        """Store the greater of the stored KvU64 and the operand."""
        return self._u64(MutationKind.MAX, key, operand)

    def _u64(self, kind: MutationKind, key: KeyLike, operand: int) -> Self:
        data, encoding = values.encode(KvU64(operand))
        self._mutations.append((Mutation(kind, keys.encode(key), data, encoding), None))
        return self

    def enqueue(
        self,
        payload: object,
        *,
        delay: Duration = 0,
        backoff_schedule: Iterable[Duration] | None = None,
        keys_if_undelivered: Iterable[KeyLike] = (),
    ) -> Self:
        """Send a message when this commits; see `Kv.enqueue`."""
        self._enqueues.append((message(payload, 0, delay, backoff_schedule, keys_if_undelivered),))
        return self

    def _write(self) -> AtomicWrite:
        """All that was collected, with its times from now on. Raises LimitExceeded, KeyInvalid."""
        now = self._clock()
        mutations = tuple(
            mutation if expiry is None else mutation._replace(expire_at=_expiry(now + expiry))
            for mutation, expiry in self._mutations
        )
        enqueues = tuple(one._replace(deliver_at=now + one.deliver_at) for (one,) in self._enqueues)
        return checked(AtomicWrite(tuple(self._checks), mutations, enqueues))


def _expiry(at: int) -> int:
    if at > LATEST_EXPIRY:
        raise OptionInvalid("expire_in is too large")
    return at


def _versionstamp(digits: str | None) -> bytes | None:
    if digits is None:
        return None
    try:
        data = bytes.fromhex(digits)
    except (ValueError, TypeError) as error:
        raise ValueInvalid(f"{digits!r} is not a versionstamp") from error
    if len(data) != 10 or len(digits) != 20:
        raise ValueInvalid(f"{digits!r} is not a versionstamp, which has 20 hexadecimal digits")
    return data


def _operand(number: float) -> tuple[bytes, int]:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueInvalid(f"sum takes an int, a float or a BigInt, not {type(number).__name__}")
    if isinstance(number, (float, BigInt)):
        return values.encode(number)
    return values.encode(KvU64(number))


_DELETE: Final = MutationKind.DELETE  # an enum's member is found slowly


def checked(write: AtomicWrite) -> AtomicWrite:
    """The same, if it keeps Deno's limits. As there, the key of what sets counts twice towards the total."""
    if len(write.checks) > limits.CHECKS:
        raise LimitExceeded(f"an atomic operation has at most {limits.CHECKS} checks, not {len(write.checks)}")
    if (count := len(write.mutations) + len(write.enqueues)) > limits.MUTATIONS:
        raise LimitExceeded(f"an atomic operation has at most {limits.MUTATIONS} mutations, not {count}")
    total = sum(keys.check_written(check.key) for check in write.checks)
    of_keys = 0
    for mutation in write.mutations:
        size = keys.check_written(mutation.key)
        total += size
        if mutation.kind is not _DELETE:
            total += size + check_value(mutation.value)
            of_keys += size
    for enqueue in write.enqueues:
        total += check_value(enqueue.payload) + 4 * len(enqueue.backoff or ())
    if total > limits.MUTATION_BYTES:
        raise LimitExceeded(f"an atomic operation has at most {limits.MUTATION_BYTES} bytes, not {total}")
    if of_keys > limits.KEY_BYTES:
        raise LimitExceeded(f"the keys of an atomic operation have at most {limits.KEY_BYTES} bytes, not {of_keys}")
    return write


def check_value(data: bytes) -> int:
    if len(data) > limits.VALUE:
        raise LimitExceeded(f"a value has at most {limits.VALUE} bytes, not {len(data)}")
    return len(data)
