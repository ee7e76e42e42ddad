"""How two databases differ: by going through both, or, where both are files that come from one, by what of these differs."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from provisioner.kv.codec import value
from provisioner.kv.errors import KvError
from provisioner.kv.local_store import StoreSnapshot
from provisioner.kv.model import Encoding, StoredRow
from provisioner.kv.stores.sqlite import page_diff
from provisioner.kv.stores.sqlite.snapshot import SqliteSnapshot


class Kind(enum.Enum):
    """Seen from the first database: what the second has more, has otherwise, or lacks."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Side(enum.Enum):
    """Who made the difference since the two were one."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class EntryChange(NamedTuple):
    """`by` is None where it is not known since when the two are two."""

    kind: Kind
    before: StoredRow | None
    after: StoredRow | None
    by: Side | None

    @property
    def key(self) -> bytes:
        row = self.before or self.after
        assert row is not None  # noqa: S101
        return row[0]


def diff(first: StoreSnapshot, second: StoreSnapshot, *, fork_version: int | None = None) -> Iterator[EntryChange]:
    """What differs, in the order of the keys. `fork_version` is the version of the database when one became two: what has
    a higher one was written since."""
    expiry = first.expiry and second.expiry
    for before, after in _pairs(first, second):
        change = _change(before, after, fork_version, expiry)
        if change is not None:
            yield change


def _pairs(first: StoreSnapshot, second: StoreSnapshot) -> Iterable[tuple[StoredRow | None, StoredRow | None]]:
    if isinstance(first, SqliteSnapshot) and isinstance(second, SqliteSnapshot):
        keys = page_diff.maybe_different(first, second)
        if keys is not None:
            return ((first.row(key), second.row(key)) for key in sorted(keys))
    return merged(first.rows(), second.rows())


def merged(
    first: Iterator[StoredRow], second: Iterator[StoredRow]
) -> Iterator[tuple[StoredRow | None, StoredRow | None]]:
    """The rows of both by their keys, but for those that are the same."""
    before, after = next(first, None), next(second, None)
    while before is not None and after is not None:
        if before == after:
            before, after = next(first, None), next(second, None)
        elif before[0] == after[0]:
            yield before, after
            before, after = next(first, None), next(second, None)
        elif before[0] < after[0]:
            yield before, None
            before = next(first, None)
        else:
            yield None, after
            after = next(second, None)
    while before is not None:
        yield before, None
        before = next(first, None)
    while after is not None:
        yield None, after
        after = next(second, None)


def _change(before: StoredRow | None, after: StoredRow | None, fork: int | None, expiry: bool) -> EntryChange | None:
    if before is None or after is None:
        if before is None and after is None:
            return None
        return _one_has_it(before, after, fork)
    if _same_value(before, after) and (before[4] == after[4] or not expiry):
        return None
    return EntryChange(Kind.CHANGED, before, after, _writer(_since(before, fork), _since(after, fork)))


def _one_has_it(before: StoredRow | None, after: StoredRow | None, fork: int | None) -> EntryChange:
    """Written since by the one that has it; or else it was there, and the other has deleted it."""
    kind = Kind.ADDED if before is None else Kind.REMOVED
    written = _since(before or after, fork)
    if written is None:
        return EntryChange(kind, before, after, None)
    return EntryChange(kind, before, after, Side.SECOND if written == (kind is Kind.ADDED) else Side.FIRST)


def _since(row: StoredRow | None, fork: int | None) -> bool | None:
    if row is None or row[3] is None or fork is None:
        return None
    return row[3] > fork


def _writer(first: bool | None, second: bool | None) -> Side | None:
    if first is None or second is None:
        return None
    return {(True, False): Side.FIRST, (False, True): Side.SECOND, (True, True): Side.BOTH}.get((first, second))


def _same_value(before: StoredRow, after: StoredRow) -> bool:
    """The same bytes, or bytes that V8 of another version wrote of the same value."""
    if before[1:3] == after[1:3]:
        return True
    if before[2] != Encoding.V8 or after[2] != Encoding.V8:
        return False
    try:
        return value.encode(value.from_v8(before[1])) == value.encode(value.from_v8(after[1]))
    except (KvError, RecursionError):
        return False
