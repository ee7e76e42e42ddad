"""All entries of an SQLite file of Deno KV, and the fence that blocks writes to it.

A file is fenced by new names for its tables, given in one transaction: programs that have it open, Deno too, get an error from
then on, "no such table". The record of Deno's migrations stays, so no program that opens the file creates new, empty tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import apsw

from provisioner.kv.bulk_copy import MOST_ROWS, QueuedMessage
from provisioner.kv.errors import StoreFailed
from provisioner.kv.model import StoredRow
from provisioner.kv.stores.sqlite.connection import renaming
from provisioner.kv.stores.sqlite.errors import FENCED
from provisioner.kv.stores.sqlite.file import File, Opening, number

_TABLES: Final = ("kv", "data_version", "queue", "queue_running")
_CACHE_KIB: Final = 8000
_ENTRIES: Final = "select k, cast(v as blob), cast(v_encoding as integer), version, expiration_ms from {}kv "
_ALL: Final = _ENTRIES + "where k >= x'' order by k"  # keys that are not bytes are invisible
_FOUND: Final = _ENTRIES + "where k in ({})"
_PUT: Final = "insert into kv (k, v, v_encoding, version, expiration_ms) values (?, ?, ?, ?, ?)"
_LOOKED_UP: Final = 500  # keys in a statement


class SqliteBulkTarget:
    """The file at `path`, which is there, fenced or not. `quick`: it is a copy, which is synced as a whole in the end."""

    def __init__(self, path: str, *, quick: bool = False) -> None:
        self._file = File(path, Opening("normal" if quick else "full", must_exist=True, cache_kib=_CACHE_KIB), _ignore)
        self._writes = 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SqliteBulkTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fence(self) -> None:
        """Nothing is written from here on, and what was is on disk."""
        self._rename("", FENCED)

    def unfence(self) -> None:
        """Remove the fence."""
        self._rename(FENCED, "")

    def batches(self) -> Iterator[list[StoredRow]]:
        connection = self._file.another()
        try:
            rows = connection.execute(_ALL.format(self._prefix(connection)))
            while batch := list(islice(rows, MOST_ROWS)):
                yield batch
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            connection.close()

    def count(self) -> int:
        return number(self._ask("select count(*) from {}kv where k >= x''"))

    def messages(self, now: int) -> list[QueuedMessage]:
        rows = self._ask(
            "select ts, id, data, backoff_schedule, keys_if_undelivered from {0}queue union all"
            " select ?, id, data, backoff_schedule, keys_if_undelivered from {0}queue_running order by 1, 2",
            now,
        )
        messages = {row[1]: (row[0], row[1], _bytes(row[2]), _text(row[3]).rstrip(), _text(row[4])) for row in rows}
        return list(messages.values())

    def version(self) -> int:
        told = number(self._ask("select version from {}data_version where k = 0"))
        return max(told, number(self._ask("select ifnull(max(version), 0) from {}kv")))

    def put(self, rows: Sequence[StoredRow]) -> None:
        with self._file.transaction() as connection:
            connection.executemany(_PUT, rows)

    def change(self, rows: Sequence[StoredRow], gone: Sequence[bytes]) -> None:
        with self._file.transaction() as connection:
            connection.executemany("delete from kv where k = ?", [(key,) for key in (*gone, *(row[0] for row in rows))])
            connection.executemany(_PUT, rows)

    def found(self, keys: Sequence[bytes]) -> list[StoredRow]:
        rows: list[Any] = []
        for start in range(0, len(keys), _LOOKED_UP):
            some = keys[start : start + _LOOKED_UP]
            marks = ", ".join("?" * len(some))
            rows += self._ask(_FOUND.format("{}", marks), *some)
        return rows

    def replace_messages(self, messages: Sequence[QueuedMessage], version: int) -> None:
        with self._file.transaction() as connection:
            connection.execute("delete from queue")
            connection.execute("delete from queue_running")
            connection.executemany(
                "insert into queue (ts, id, data, backoff_schedule, keys_if_undelivered) values (?, ?, ?, ?, ?)",
                messages,
            )
            connection.execute("update data_version set version = ? where k = 0", (version,))

    def shut(self) -> None:
        """Put its log into its file, for who syncs that. Raises StoreFailed where others use it."""
        connection = self._file.another()
        try:
            ((busy, *_),) = connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            connection.close()
        if busy:
            raise StoreFailed(f"{self._file.path} is still being used")

    def _rename(self, before: str, after: str) -> None:
        with self._file.transaction() as connection, renaming(connection):
            if self._prefix(connection) == before:
                for table in _TABLES:
                    connection.execute(f"alter table {before}{table} rename to {after}{table}")

    def _ask(self, statement: str, *values: object) -> list[Any]:
        connection = self._file.reader()
        try:
            found: list[Any] = connection.execute(
                statement.format(self._prefix(connection)),
                values,
            ).fetchall()
            return found
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            self._file.release(connection)

    def _prefix(self, connection: apsw.Connection) -> str:
        fenced = connection.execute("select 1 from sqlite_master where name = ?", (f"{FENCED}kv",)).fetchall()
        return FENCED if fenced else ""


def _ignore() -> None:
    pass


def _bytes(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _text(data: Any) -> str:
    return data if isinstance(data, str) else data.decode()
