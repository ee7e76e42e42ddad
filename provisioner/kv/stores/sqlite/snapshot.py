"""One moment of an SQLite file: a transaction that reads, while others continue to write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import apsw

from provisioner.kv.errors import Malformed
from provisioner.kv.model import StoredRow
from provisioner.kv.stores.sqlite.connection import connect
from provisioner.kv.stores.sqlite.errors import refused
from provisioner.kv.stores.sqlite.file import File, number
from provisioner.kv.stores.sqlite.schema import PUT

if TYPE_CHECKING:
    from provisioner.kv.stores.sqlite.pages import FilePages

# What another program stored as text is read as its bytes; keys that are not bytes are invisible: those are less than x''.
_FROM: Final = "select k, cast(v as blob), cast(v_encoding as integer), version, expiration_ms from kv"
_ROW: Final = f"{_FROM} where k = ?"
_ROWS: Final = f"{_FROM} where k >= ? order by k"
_ROWS_BETWEEN: Final = f"{_FROM} where k >= ? and k < ? order by k"
_VERSION: Final = "select version from data_version where k = 0"
_COUNT: Final = "select count(*) from kv"
_LOOK_EVERY: Final = 20_000  # steps of SQLite's machine, a few milliseconds
_SWEEP: Final = "delete from kv where k > ? and k < ?"
_SWEEP_REST: Final = "delete from kv where k > ?"


class SqliteSnapshot:
    """Made on a connection inside of its reading transaction. The log grows while it is open and others write."""

    whole = True
    expiry = True

    def __init__(self, file: File, connection: apsw.Connection) -> None:
        self.file = file
        self.connection = connection
        self.pages: FilePages | None = None
        self.version: int | None = number(connection.execute(_VERSION).fetchall())

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        asked = (_ROWS, (start,)) if end is None else (_ROWS_BETWEEN, (start, end))
        try:
            for row in self.connection.execute(*asked):
                yield _whole(row)
        except apsw.Error as error:
            raise self.file.failure(error) from error

    def end_by(self, deadline: float) -> None:
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)

    def row(self, key: bytes) -> StoredRow | None:
        try:
            rows: list[Any] = self.connection.execute(_ROW, (key,)).fetchall()
        except apsw.Error as error:
            raise self.file.failure(error) from error
        return _whole(rows[0]) if rows else None

    def count(self) -> int | None:
        try:
            return number(self.connection.execute(_COUNT).fetchall())
        except apsw.Error as error:
            raise self.file.failure(error) from error


def _whole(row: Any) -> StoredRow:
    """The row, if it is one of an entry. Raises Malformed: a copy of its remains would not be one."""
    key, value, encoding, version, expires = row
    if type(value) is bytes and type(encoding) is int and type(version) is int and type(expires) is int:
        return row  # type: ignore[no-any-return]
    raise Malformed(f"the entry under the stored key x'{key.hex()}' is damaged. Delete its row with SQLite")


def put(connection: apsw.Connection, rows: Sequence[StoredRow], version: int, *, keep: bool) -> int:
    """Store rows in the open transaction: with their own versions if `keep`, else all with `version`. The highest."""
    if not keep:
        connection.executemany(PUT, ((row[0], row[1], row[2], version, row[4]) for row in rows))
        return version
    own = [row if row[3] is not None else (*row[:3], version, row[4]) for row in rows]
    connection.executemany(PUT, own)
    return max((row[3] or 0 for row in own), default=0)


def sweep(connection: apsw.Connection, after: bytes, staying: Sequence[bytes], *, to_end: bool) -> int:
    """Delete what lies between the keys `after` and `staying`, which are in order, and `to_end` what is behind: how many."""
    before = connection.total_changes()
    connection.executemany(_SWEEP, zip([after, *staying], staying, strict=False))
    if to_end:
        connection.execute(_SWEEP_REST, (staying[-1] if staying else after,))
    return connection.total_changes() - before


def has_entries(path: str) -> bool:
    """Whether the file is one of Deno KV's: anything else that SQLite opens must not be given its tables.

    Raises StoreFailed if that is unknown.
    """
    try:
        connection = connect(path, apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        raise refused(path, error) from error
    try:
        return bool(connection.execute("select 1 from sqlite_master where name = 'migration_state'").fetchall())
    except (apsw.NotADBError, apsw.CorruptError):
        return False
    except apsw.Error as error:
        raise refused(path, error) from error
    finally:
        connection.close()
