"""The store that lives in this process: a dictionary, and the keys in order."""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

from provisioner.kv.errors import Closed, KvError
from provisioner.kv.model import AtomicWrite, ChecksFailed, Committed, RawEntry, ReadRange
from provisioner.kv.mutate import Effect, Stored, effects
from provisioner.kv.store import Outcome


class _Row(NamedTuple):
    entry: RawEntry
    expire_at: int


class MemoryStore:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[bytes, _Row] = {}
        self._keys: list[bytes] = []
        self._version = 0
        self._random = random.Random()  # noqa: S311 the steps of the version only have to differ
        self._closed = False

    def read(self, ranges: Sequence[ReadRange]) -> list[list[RawEntry]]:
        with self._lock:
            self._check_open()
            return [self._range(wanted) for wanted in ranges]

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        with self._lock:
            self._check_open()
            return [self._one(write) for write in writes]

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the database is closed")

    def _range(self, wanted: ReadRange) -> list[RawEntry]:
        if wanted.end == wanted.start + b"\0":
            row = self._rows.get(wanted.start)
            return [] if row is None else [row.entry]
        first, behind = bisect_left(self._keys, wanted.start), bisect_left(self._keys, wanted.end)
        if wanted.reverse:
            keys = self._keys[max(first, behind - wanted.limit) : behind][::-1]
        else:
            keys = self._keys[first : min(behind, first + wanted.limit)]
        return [self._rows[key].entry for key in keys]

    def _one(self, write: AtomicWrite) -> Outcome:
        failed = tuple(
            index
            for index, check in enumerate(write.checks)
            if check.versionstamp != ((row := self._rows.get(check.key)) and row.entry.versionstamp)
        )
        if failed:
            return ChecksFailed(failed)
        version = self._version + self._random.randint(1, 9)
        versionstamp = version.to_bytes(8, "big") + b"\0\0"
        try:
            done = effects(write.mutations, self._stored, versionstamp)
        except KvError as error:
            return error
        self._version = version
        for effect in done:
            self._put(effect, versionstamp)
        return Committed(versionstamp)

    def _stored(self, key: bytes) -> Stored | None:
        row = self._rows.get(key)
        return None if row is None else (row.entry.value, row.entry.encoding)

    def _put(self, effect: Effect, versionstamp: bytes) -> None:
        key = effect.key
        if effect.value is None:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._rows:
            insort(self._keys, key)
        self._rows[key] = _Row(RawEntry(key, effect.value, effect.encoding, versionstamp), effect.expire_at)
