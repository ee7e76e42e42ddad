"""Between a program's arguments and encoded requests, and back. No input or output: both clients stand on this."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from provisioner.kv import key as keys
from provisioner.kv import limits
from provisioner.kv import value as values
from provisioner.kv.errors import CursorInvalid, KvError, LimitExceeded, Malformed, OptionInvalid, ValueInvalid
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
    KvKey,
    KvU64,
    Mutation,
    MutationKind,
    RawEntry,
    ReadRange,
    Versionstamp,
)
from provisioner.kv.store import Outcome

LATEST_EXPIRY = 8_210_266_876_799_999  # milliseconds; what Deno's calendar ends with
Duration = datetime.timedelta | int


def points(wanted: Sequence[KeyLike]) -> list[ReadRange]:
    """A range for each of the keys."""
    if len(wanted) > limits.READ_RANGES:
        raise LimitExceeded(f"get_many takes at most {limits.READ_RANGES} keys, not {len(wanted)}")
    return [keys.point(keys.encode(key)) for key in wanted]


def consistent(consistency: str) -> None:
    """Refuse what is none. Both kinds read the latest commit: only a remote database has older copies."""
    if consistency not in ("strong", "eventual"):
        raise OptionInvalid(f'consistency is "strong" or "eventual", not {consistency!r}')


def found(key: KeyLike, entries: Sequence[RawEntry]) -> KvEntry[Any]:
    """The one entry of `key`, or that it is absent."""
    return entry(entries[0]) if entries else KvEntry(tuple(key), None, None)  # type: ignore[arg-type]


def got(key: KeyLike, entries: Sequence[RawEntry]) -> KvEntry[Any]:
    """The same as `found`, without decoding a key that is known."""
    if entries and (known := keys.as_stored(key)) is not None:
        return entry(entries[0], len(entries[0].key), known)
    return found(key, entries)


def entry(raw: RawEntry, at: int = 0, known: KvKey = ()) -> KvEntry[Any]:
    """The entry decoded; see `key.decode` for `at` and `known`. Raises Malformed, which names the key."""
    data, stored, encoding, versionstamp = raw
    key = known if at == len(data) else keys.decode(data, at, known)
    try:
        return KvEntry(key, values.decode(stored, encoding), Versionstamp(versionstamp.hex()))
    except Malformed as error:
        raise Malformed(f"the value of {key!r} cannot be read: {error}") from error


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
        kind = MutationKind.SET
        if len(key) and key[-1] is COMMIT_VERSIONSTAMP:
            kind, key = MutationKind.SET_VERSIONSTAMPED, key[:-1]
        data, encoding = values.encode(value)
        expiry = None if expire_in is None else milliseconds(expire_in, "expire_in")
        self._mutations.append((Mutation(kind, keys.encode(key), data, encoding), expiry))  # type: ignore[arg-type]
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

    def _result(self, write: AtomicWrite, outcome: Outcome) -> CommitResult | CommitFailed:
        """What the program gets, and the collector hears: not before, or it would look too early."""
        result = committed(outcome)
        for mutation in write.mutations:
            if mutation.expire_at >= 0 and result:
                self._expect(mutation.expire_at)
        return result


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
        raise ValueInvalid(f"{digits!r} is no versionstamp") from error
    if len(data) != 10 or len(digits) != 20:
        raise ValueInvalid(f"{digits!r} is no versionstamp, which has 20 hexadecimal digits")
    return data


def _operand(number: float) -> tuple[bytes, int]:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueInvalid(f"sum takes an int, a float or a BigInt, not {type(number).__name__}")
    if isinstance(number, (float, BigInt)):
        return values.encode(number)
    return values.encode(KvU64(number))


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
        if mutation.kind is not MutationKind.DELETE:
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


class Watching:
    """The keys of a watch, and what was last seen of them."""

    def __init__(self, wanted: Sequence[KeyLike]) -> None:
        if len(wanted) > limits.WATCHED_KEYS:
            raise LimitExceeded(f"watch takes at most {limits.WATCHED_KEYS} keys, not {len(wanted)}")
        self._wanted = tuple(wanted)
        self.keys = tuple(keys.encode(key) for key in wanted)
        for key in self.keys:
            keys.check_read(key)
        self.ranges = [ReadRange(key, key + b"\0", 1) for key in self.keys]
        self._seen: list[bytes | None] | None = None

    def changed(self, found_now: Sequence[Sequence[RawEntry]]) -> list[KvEntry[Any]] | None:
        """The entries, if one of them is another than last time."""
        seen = [entries[0].versionstamp if entries else None for entries in found_now]
        if seen == self._seen:
            return None
        self._seen = seen
        return [found(key, entries) for key, entries in zip(self._wanted, found_now, strict=True)]


class Listing:
    """Where a list stands: what to read next, and the cursor behind what was handed out."""

    __slots__ = ("_batch", "_known", "_last", "_left", "_offset", "_over", "_ready", "_reverse", "_selector", "wants")

    def __init__(
        self,
        prefix: KeyLike | None,
        start: KeyLike | None,
        end: KeyLike | None,
        limit: int | None,
        reverse: bool,
        cursor: str | None,
        batch_size: int | None,
    ) -> None:
        if limit is not None:
            _positive(limit, "limit")
        if batch_size is None:
            self._batch = min(limit or limits.BATCH_DEFAULT, limits.BATCH_OF_A_LIMIT)
        else:
            self._batch = _positive(batch_size, "batch_size")
        if self._batch > limits.READ_ENTRIES:
            raise LimitExceeded(f"batch_size is at most {limits.READ_ENTRIES}, not {batch_size}")
        self._selector = keys.Selector.of(prefix, start, end)
        self._known: KvKey = () if prefix is None else keys.decode(self._selector.common)
        self._offset = 0 if prefix is None else len(self._selector.common)
        self._left = -1 if limit is None else limit
        self._reverse = reverse
        self._last: bytes | str | None = cursor or None
        self._ready: list[RawEntry] = []
        self._over = False
        self.wants: ReadRange | None = self._selector.read(self._batch, reverse, cursor or None)
        """What to `read` before the next entry is handed out; None if that can be done at once."""

    def read(self, entries: list[RawEntry]) -> None:
        """What was wanted."""
        self._ready = entries[::-1]
        self.wants = None
        if len(entries) < self._batch:
            self._over = True

    def hand_out(self) -> KvEntry[Any] | None:
        """The next entry; None behind the last one."""
        if not self._left:
            return None
        ready = self._ready
        if not ready:
            self._last = b""
            return None
        raw = ready.pop()
        self._last = raw.key
        self._left -= 1
        if not ready and not self._over and self._left:
            self.wants = self._selector.read(self._batch, self._reverse, self._selector.cursor(raw.key))
        return entry(raw, self._offset, self._known)

    @property
    def cursor(self) -> str:
        """Continues behind the last entry; empty when the end was seen."""
        if self._last is None:
            raise CursorInvalid("there is no cursor before the first entry")
        if isinstance(self._last, str):
            return self._last
        return self._selector.cursor(self._last) if self._last else ""


def _positive(number: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
        raise OptionInvalid(f"{name} is a positive int, not {number!r}")
    return number
