"""A dump into a database, in transactions of a few thousand entries. What stops it says up to which line all is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from provisioner.kv import limits
from provisioner.kv.dump import json_lines
from provisioner.kv.dump.full_scan import LAST
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.errors import DumpInvalid, KvError, OptionInvalid, Uncertain
from provisioner.kv.local_store import DirectStore
from provisioner.kv.model import NEVER, AtomicWrite, Mutation, MutationKind, ReadRange, StoredRow
from provisioner.kv.store import Store

MOST_ROWS: Final = 5000
MOST_BYTES: Final = 4 * 1024 * 1024
SENT_AGAIN: Final = 3  # a write whose answer was lost: storing the same again does no harm


class Loaded(NamedTuple):
    """How far it is: all lines up to `line`, which is where `entries` of them were stored and others deleted."""

    line: int
    entries: int
    deleted: int


class LoadStopped(KvError):  # noqa: N818 named for what happened
    """It ended early, for `reason`; `loaded` is what had been done, and stays."""

    def __init__(self, loaded: Loaded, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.loaded = loaded
        self.reason = reason


class LoadTarget(Protocol):
    def check(self, row: StoredRow) -> None:
        """Raises KvError for what cannot be stored here."""

    def put(self, rows: Sequence[StoredRow], after: bytes | None, to_end: bool) -> int:
        """Store the rows, and delete other keys, see `DirectStore.load`."""


class DirectLoadTarget:
    """By the store itself: `keep` the versionstamps of the dump."""

    def __init__(self, store: DirectStore, keep: bool) -> None:
        self._store = store
        self._keep = keep

    def check(self, row: StoredRow) -> None:
        """A file takes what a file had."""

    def put(self, rows: Sequence[StoredRow], after: bytes | None, to_end: bool) -> int:
        return self._store.load(rows, keep=self._keep, after=after, to_end=to_end)


class WriteLoadTarget:
    """Any store by its atomic writes, within Deno's limits. A part of a batch may be stored and the rest not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, row: StoredRow) -> None:
        json_lines.check_written((row,))

    def put(self, rows: Sequence[StoredRow], after: bytes | None, to_end: bool) -> int:
        gone: list[bytes] = []
        if after is not None:
            staying = {row[0] for row in rows}
            end = LAST if to_end else rows[-1][0] + b"\0"
            gone = [key for key in keys_between(self._store, after + b"\0", end) if key not in staying]
        mutations = [Mutation(MutationKind.DELETE, key) for key in gone]
        mutations += [
            Mutation(MutationKind.SET, key, value, encoding, max(expire_at, 1) if expire_at != NEVER else NEVER)
            for key, value, encoding, _, expire_at in rows
        ]
        write_all(self._store, mutations)
        return len(gone)


def write_all(store: Store, mutations: Sequence[Mutation]) -> None:
    """Mutations that may be repeated, in as few atomic writes as Deno's limits allow. Raises KvError."""
    for write in _writes(mutations):
        for left in reversed(range(SENT_AGAIN)):
            (outcome,) = store.write((write,))
            if isinstance(outcome, Uncertain) and left:
                continue
            if isinstance(outcome, KvError):
                raise outcome
            break


def keys_between(store: Store, start: bytes, end: bytes) -> Iterator[bytes]:
    """The encoded keys from `start` to before `end`, read a thousand at a time."""
    while True:
        (entries,) = store.read([ReadRange(start, end, limits.READ_ENTRIES)])
        yield from (entry.key for entry in entries)
        if len(entries) < limits.READ_ENTRIES:
            return
        start = entries[-1].key + b"\0"


def _writes(mutations: Sequence[Mutation]) -> Iterator[AtomicWrite]:
    batch: list[Mutation] = []
    total = of_keys = 0
    for mutation in mutations:
        size = len(mutation.key)
        whole = 2 * size + len(mutation.value)
        full = len(batch) == limits.MUTATIONS
        if full or total + whole > limits.MUTATION_BYTES or of_keys + size > limits.KEY_BYTES:
            yield AtomicWrite(mutations=tuple(batch))
            batch, total, of_keys = [], 0, 0
        batch.append(mutation)
        total += whole
        of_keys += size
    if batch:
        yield AtomicWrite(mutations=tuple(batch))


def target(store: Store, *, keep: bool) -> LoadTarget:
    """Raises OptionInvalid where versionstamps cannot be kept."""
    if isinstance(store, DirectStore):
        return DirectLoadTarget(store, keep)
    if keep:
        raise OptionInvalid(
            "a server assigns new versionstamps. To keep them, load on the machine of the database's file"
        )
    return WriteLoadTarget(store)


def is_empty(store: Store) -> bool:
    (entries,) = store.read([ReadRange(b"\0", LAST, 1)])
    return not entries


def load(dump: Dump, into: LoadTarget, *, replace: bool, start: int = 1) -> Iterator[Loaded]:
    """Load the lines from `start` on, and say after each transaction how far it is. Raises Stopped.

    With `replace`, keys that the dump does not have are deleted on the way, so it must be in the order of the keys: up to
    the last key that was loaded, the database equals the dump; after it, it is unchanged.
    """
    work = _Load(into, replace, start)
    try:
        for line, row in dump.rows(start, before=replace):
            if line < start:
                work.swept = row[0]
            elif work.add(line, row):
                yield work.flush()
        yield work.flush(to_end=True)
    except DumpInvalid as error:
        try:
            work.flush()
        except KvError as failure:
            raise LoadStopped(work.loaded, failure) from failure
        raise LoadStopped(work.loaded, error) from error
    except (KvError, KeyboardInterrupt, OSError) as error:
        raise LoadStopped(work.loaded, error) from error


class _Load:
    """The batch that is gathered, and how far all before it is."""

    def __init__(self, into: LoadTarget, replace: bool, start: int) -> None:
        self.loaded = Loaded(start - 1, 0, 0)
        self.swept = b""
        self._into = into
        self._replace = replace
        self._rows: list[StoredRow] = []
        self._bytes = 0
        self._line = start - 1

    def add(self, line: int, row: StoredRow) -> bool:
        """Whether the batch is full."""
        last = self._rows[-1][0] if self._rows else self.swept
        if self._replace and row[0] <= last:
            raise DumpInvalid(
                "its key is not after the one before, which --replace requires. Load it with --merge", line
            )
        try:
            self._into.check(row)
        except KvError as error:
            raise DumpInvalid(str(error), line) from error
        self._rows.append(row)
        self._bytes += len(row[0]) + len(row[1])
        self._line = line
        return len(self._rows) >= MOST_ROWS or self._bytes >= MOST_BYTES

    def flush(self, *, to_end: bool = False) -> Loaded:
        deleted = 0
        if self._rows or (to_end and self._replace):
            deleted = self._into.put(self._rows, self.swept if self._replace else None, to_end)
        _, entries, before = self.loaded
        self.loaded = Loaded(self._line, entries + len(self._rows), before + deleted)
        if self._rows:
            self.swept = self._rows[-1][0]
        self._rows, self._bytes = [], 0
        return self.loaded
