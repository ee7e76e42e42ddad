"""The store that lives in this process: a dictionary, and the keys in order."""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import uuid4

from provisioner.kv import limits
from provisioner.kv.errors import Closed, KvError
from provisioner.kv.model import (
    AtomicWrite,
    ChecksFailed,
    Committed,
    Consistency,
    Encoding,
    Message,
    RawEntry,
    ReadRange,
)
from provisioner.kv.rules import queue
from provisioner.kv.rules.mutations import Effect, Stored, effects
from provisioner.kv.store import Outcome
from provisioner.kv.stores.subscriptions import Wakeups, WakeupSubscription


class _Job(NamedTuple):
    """A message: when it is due, or when its handler counts as dead."""

    at: int
    id: str
    payload: bytes
    backoff: tuple[int, ...]
    keys: tuple[bytes, ...]


class MemoryStore:
    prompt = True
    gathers = True

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[bytes, RawEntry] = {}
        self._keys: list[bytes] = []
        self._version = 0
        self._random = random.Random()  # noqa: S311 the steps of the version only have to differ
        self._wakeups = Wakeups()
        self._queue: list[_Job] = []
        self._running: dict[str, _Job] = {}
        self._expiring: dict[bytes, int] = {}
        self._closed = False

    def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        with self._lock:
            self._check_open()
            return [self._range(wanted) for wanted in ranges]

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        changed: list[bytes] = []
        with self._lock:
            self._check_open()
            outcomes = [self._one(write, changed) for write in writes]
        self._wakeups.changed(changed, queue=any(write.enqueues for write in writes))
        return outcomes

    def watch(self, keys: Sequence[bytes], wake: Callable[[], None]) -> WakeupSubscription:
        return self._wakeups.add(keys, wake)

    def watch_queue(self, wake: Callable[[], None]) -> WakeupSubscription:
        return self._wakeups.add((), wake, queue=True)

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        with self._lock:
            self._check_open()
            due = [job for job in self._queue[:most] if job.at <= now]
            del self._queue[: len(due)]
            for job in due:
                self._running[job.id] = job._replace(at=now + queue.DEADLINE)
            return [Message(job.id, job.payload) for job in due], self._queue[0].at if self._queue else None

    def renew(self, ids: Sequence[str], now: int) -> None:
        with self._lock:
            self._check_open()
            for id in ids:  # noqa: A001
                if (job := self._running.get(id)) is not None:
                    self._running[id] = job._replace(at=now + queue.DEADLINE)

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002
        with self._lock:
            self._check_open()
            changed = None if success else self._failed(id, now)
            self._running.pop(id, None)
        if changed is not None:
            self._wakeups.changed(changed, queue=True)

    def revive(self, now: int) -> tuple[int, int | None]:
        with self._lock:
            self._check_open()
            left = [job.id for job in self._running.values() if job.at <= now]
            changed = [key for id in left for key in self._failed(id, now)]  # noqa: A001
            for id in left:  # noqa: A001
                del self._running[id]
            deadline = min((job.at for job in self._running.values()), default=None)
        if left:
            self._wakeups.changed(changed, queue=True)
        return len(left), deadline

    def collect(self, now: int) -> tuple[int, int | None]:
        with self._lock:
            self._check_open()
            expired = [key for key, at in self._expiring.items() if at <= now]
            for key in expired:
                self._put(Effect(key, None), b"")
            if expired:
                self._version += 1
            following = min(self._expiring.values(), default=None)
        self._wakeups.changed(expired)
        return len(expired), following

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._wakeups.everything()

    def _failed(self, id: str, now: int) -> list[bytes]:  # noqa: A002
        """The keys that were written because a running message failed for the last time."""
        job = self._running.get(id)
        if job is None:
            return []
        fate = queue.failed(job.backoff, job.keys, now)
        if isinstance(fate, queue.Retry):
            insort(self._queue, job._replace(at=fate.at, backoff=fate.backoff))
            return []
        if fate.keys:
            self._version += self._random.randint(1, 9)
        for key in fate.keys:
            self._put(Effect(key, job.payload, Encoding.V8), self._versionstamp(self._version))
        return list(fate.keys)

    def _versionstamp(self, version: int) -> bytes:
        return version.to_bytes(8, "big") + b"\0\0"

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the database is closed")

    def _range(self, wanted: ReadRange) -> list[RawEntry]:
        if wanted.end == wanted.start + b"\0":
            row = self._rows.get(wanted.start)
            return [] if row is None else [row]
        first, behind = bisect_left(self._keys, wanted.start), bisect_left(self._keys, wanted.end)
        if wanted.reverse:
            keys = self._keys[max(first, behind - wanted.limit) : behind][::-1]
        else:
            keys = self._keys[first : min(behind, first + wanted.limit)]
        return [self._rows[key] for key in keys]

    def _one(self, write: AtomicWrite, changed: list[bytes]) -> Outcome:
        failed = tuple(
            index
            for index, check in enumerate(write.checks)
            if check.versionstamp != ((row := self._rows.get(check.key)) and row.versionstamp)
        )
        if failed:
            return ChecksFailed(failed)
        version = self._version + self._random.randint(1, 9)
        versionstamp = self._versionstamp(version)
        try:
            done = effects(write.mutations, self._stored, versionstamp)
        except KvError as error:
            return error
        self._version = version
        for effect in done:
            self._put(effect, versionstamp)
            changed.append(effect.key)
        for enqueue in write.enqueues:
            backoff = limits.BACKOFF_DEFAULT if enqueue.backoff is None else enqueue.backoff
            job = _Job(enqueue.deliver_at, str(uuid4()), enqueue.payload, backoff, enqueue.keys_if_undelivered)
            insort(self._queue, job)
        return Committed(versionstamp)

    def _stored(self, key: bytes) -> Stored | None:
        row = self._rows.get(key)
        return None if row is None else (row.value, row.encoding)

    def _put(self, effect: Effect, versionstamp: bytes) -> None:
        key = effect.key
        self._expiring.pop(key, None)
        if effect.value is None:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._rows:
            insort(self._keys, key)
        self._rows[key] = RawEntry(key, effect.value, int(effect.encoding), versionstamp)
        if effect.expire_at >= 0:
            self._expiring[key] = effect.expire_at
