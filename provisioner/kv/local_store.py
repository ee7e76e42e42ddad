"""What a store can say that has the entries itself: more of them than a server of KV Connect tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, runtime_checkable

from provisioner.kv.model import ReadRange, StoredRow
from provisioner.kv.store import Store

Row: TypeAlias = tuple[bytes, bytes, int, int]
"""Key, value, encoding, and the version as a number."""


class ReadTransaction(Protocol):
    """One state of a database, until it is closed. For one thread."""

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """As DirectStore.rows."""

    def close(self) -> None: ...


class StoreSnapshot(Protocol):
    """`whole`: all rows are of one moment; `expiry`: rows say when they expire. `version` is None where none is known."""

    whole: bool
    expiry: bool
    version: int | None

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        """The entries in the order of their keys, as they are asked for: all, or from `start` to before `end`."""

    def count(self) -> int | None:
        """How many there are, if that can be said at once."""


class TimedSnapshot(StoreSnapshot, Protocol):
    def end_by(self, deadline: float) -> None:
        """Reads that still run at that time, by time.monotonic(), get a KvError."""


@runtime_checkable
class Replicated(Protocol):
    """A database of which there may be copies that lag."""

    def eventual_rows(self, ranges: Sequence[ReadRange]) -> tuple[list[list[Row]], bool]:
        """As DirectStore.rows, but maybe somewhat older; whether they are the latest."""


@runtime_checkable
class DirectStore(Store, Protocol):
    """A database that is not behind a provisioner server."""

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """What `read` makes its entries of."""

    def pinned(self) -> ReadTransaction:
        """For several reads at one instant. Short: it keeps a connection."""

    def row(self, key: bytes) -> StoredRow | None:
        """All of an entry, also when it expires."""

    def version(self) -> int:
        """The version of the last write, which changes with every write."""

    def next_expiry(self) -> int | None:
        """When the first of its entries expires, which may be in the past."""

    def moment(self, *, pages: bool = False) -> AbstractContextManager[TimedSnapshot]:
        """One moment of all entries, for the block; with its `pages` where there are such."""

    def load(self, rows: Sequence[StoredRow], *, keep: bool, after: bytes | None, to_end: bool) -> int:
        """Store these in one transaction: with their own versions if `keep`. How many others were deleted.

        Those are, unless `after` is None, the keys behind `after` up to the last one of the rows, or `to_end`.
        """

    def rest(self) -> None:
        """It will not be used for a while: give back what is made again in no time. May be called at any time."""

    def give_up(self, *, at_once: bool = False) -> None:
        """It is somewhere else now: new calls get Closed, or Uncertain; so do, if `at_once`, calls that wait
        for an answer over a network."""

    def moved(self) -> bool:
        """Is something else in its place than what is open here?"""
