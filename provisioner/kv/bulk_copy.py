"""All entries of a database, for a move to another location: copied, then settled.

First it is copied while programs continue to write. Then writes are blocked, and copy and original are compared, entry
by entry, as two streams in the order of their keys: what differs is put right, and looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from provisioner.kv.errors import StoreFailed
from provisioner.kv.model import StoredRow

QueuedMessage: TypeAlias = tuple[int, str, bytes, str, str]
"""A message that waits: when it is due (ms), its id, its payload, its schedule and its keys as JSON."""

Heard = Callable[[int, int], None]
"""Told of how many more entries, and bytes, were copied or compared."""

MOST_ROWS: Final = 2000
MOST_BYTES: Final = 4 << 20


class BulkSource(Protocol):
    """For one thread. All of it raises KvError."""

    def batches(self) -> Iterator[list[StoredRow]]:
        """All entries as of one moment, in the order of their keys, about MOST_ROWS at a time; none of them is empty."""

    def count(self) -> int:
        """How many entries there are."""

    def messages(self, now: int) -> list[QueuedMessage]:
        """All messages; one that is being handled waits since `now`."""

    def version(self) -> int:
        """That of the last write: no later one has a lower version, or the same."""


class BulkTarget(BulkSource, Protocol):
    """A copy that only the caller knows yet."""

    def put(self, rows: Sequence[StoredRow]) -> None:
        """Store entries whose keys are not there."""

    def change(self, rows: Sequence[StoredRow], gone: Sequence[bytes]) -> None:
        """Store these, whatever is there, and delete those."""

    def found(self, keys: Sequence[bytes]) -> list[StoredRow]:
        """The entries of these keys, in any order."""

    def replace_messages(self, messages: Sequence[QueuedMessage], version: int) -> None:
        """Make these the messages, in the order in which they are due, and this the version."""


def copy(source: BulkSource, target: BulkTarget, heard: Heard) -> int:
    """Copy the entries as of one moment into an empty copy: how many."""
    total = 0
    for batch in source.batches():
        target.put(batch)
        total += len(batch)
        heard(len(batch), sum(len(row[0]) + len(row[1]) for row in batch))
    return total


def settle(source: BulkSource, target: BulkTarget, now: int) -> int:
    """Make a copy equal to its source, to which no program writes. Returns how many entries differed. `now` as for `messages`.

    Raises StoreFailed where it is not the same afterwards.
    """
    differed = 0
    stay: list[StoredRow] = []
    gone: list[bytes] = []
    size = 0
    for row, key in _differences(_EntryStream(source), _EntryStream(target)):
        differed += 1
        if row is None:
            gone.append(key)
        else:
            stay.append(row)
            size += len(row[1])
        if len(stay) + len(gone) >= MOST_ROWS or size >= MOST_BYTES:
            _change(target, stay, gone)
            stay, gone, size = [], [], 0
    _change(target, stay, gone)
    messages, version = source.messages(now), source.version()
    target.replace_messages(messages, version)
    if sorted(target.messages(now)) != sorted(messages):
        raise StoreFailed("the messages of the copy are not those of the database")
    if target.version() != version or target.count() != source.count():
        raise StoreFailed("the copy is not what the database is")
    return differed


class _EntryStream:
    """Entries in the order of their keys, of which the first are compared and taken off."""

    def __init__(self, whole: BulkSource) -> None:
        self._batches = whole.batches()
        self._rows: list[StoredRow] = []
        self._at = 0

    def first(self) -> StoredRow | None:
        while self._at >= len(self._rows):
            if (following := next(self._batches, None)) is None:
                return None
            self._rows, self._at = following, 0
        return self._rows[self._at]

    def skip(self, count: int = 1) -> None:
        self._at += count

    def alike(self, other: _EntryStream) -> int:
        """How many of the next ones, at once, are the same in both."""
        count = min(len(self._rows) - self._at, len(other._rows) - other._at)
        while count:
            if self._rows[self._at : self._at + count] == other._rows[other._at : other._at + count]:
                return count
            count //= 4
        return 0


def _differences(source: _EntryStream, target: _EntryStream) -> Iterator[tuple[StoredRow | None, bytes]]:
    """What is in the source and not so in the target; None where a key is to go."""
    while True:
        row, there = source.first(), target.first()
        if row is None and there is None:
            return
        if row is not None and there is not None and (count := source.alike(target)):
            source.skip(count)
            target.skip(count)
        elif there is not None and (row is None or there[0] < row[0]):
            yield None, there[0]
            target.skip()
        elif row is not None:
            yield row, row[0]
            source.skip()
            if there is not None and there[0] == row[0]:
                target.skip()


def _change(target: BulkTarget, stay: Sequence[StoredRow], gone: Sequence[bytes]) -> None:
    if not (stay or gone):
        return
    target.change(stay, gone)
    found = sorted(target.found([*(row[0] for row in stay), *gone]))
    if found != sorted(stay):
        raise StoreFailed("the entries of the copy are not those of the database")
