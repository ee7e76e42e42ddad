"""All that a database on PostgreSQL holds, by a session in it of who may read and write the tables of Deno KV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import psycopg

from provisioner.kv.bulk_copy import MOST_ROWS, QueuedMessage
from provisioner.kv.model import StoredRow
from provisioner.kv.stores.postgres import errors

_ENTRY: Final = "k, v, v_encoding, version, expiration_ms"
_ALL: Final = f"select {_ENTRY} from deno_kv.kv order by k"
_COPIED: Final = f"copy deno_kv.kv ({_ENTRY}) from stdin (format binary)"
_TYPES: Final = ("bytea", "bytea", "int4", "int8", "int8")
_FOUND: Final = f"select {_ENTRY} from deno_kv.kv where k = any(%s::bytea[])"
_LETTERS: Final = (
    "select case when running then %s else at_ms end, id, data, rtrim(backoff_schedule), keys_if_undelivered"
    " from deno_kv.queue order by 1, number"
)
_VERSION: Final = "select greatest(deno_kv.last_version(), (select coalesce(max(version), 0) from deno_kv.kv))"
# With a row that is written the commit waits for standbys, which the setting of a sequence alone does not.
_SET_VERSION: Final = (
    "with known as (update deno_kv.state set wal_timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))"
    " select setval('deno_kv.version', %s)"
)


class PostgresBulkTarget:
    """Both sessions commit each statement separately; `reading` is for one that continues while `session` changes something.
    `place` is what it is called."""

    def __init__(
        self,
        session: psycopg.Connection[tuple[Any, ...]],
        reading: psycopg.Connection[tuple[Any, ...]],
        place: str,
    ) -> None:
        self._session = session
        self._reading = reading
        self._place = place

    def batches(self) -> Iterator[list[StoredRow]]:
        with self._refusals(), self._reading.transaction():
            self._reading.execute("set transaction isolation level repeatable read, read only")
            with self._reading.cursor("entries", binary=True) as cursor:
                cursor.execute(_ALL)
                while batch := cursor.fetchmany(MOST_ROWS):
                    yield cast(list[StoredRow], batch)

    def count(self) -> int:
        return int(self._ask("select count(*) from deno_kv.kv")[0][0])

    def messages(self, now: int) -> list[QueuedMessage]:
        return [(row[0], row[1], bytes(row[2]), row[3], row[4]) for row in self._ask(_LETTERS, now)]

    def version(self) -> int:
        return int(self._ask(_VERSION)[0][0])

    def put(self, rows: Sequence[StoredRow]) -> None:
        if not rows:
            return
        with self._refusals(), self._session.cursor() as cursor, cursor.copy(_COPIED) as written:
            written.set_types(_TYPES)
            for row in rows:
                written.write_row(row)

    def change(self, rows: Sequence[StoredRow], gone: Sequence[bytes]) -> None:
        with self._refusals(), self._session.transaction():
            keys = [*gone, *(row[0] for row in rows)]
            self._session.execute("delete from deno_kv.kv where k = any(%s::bytea[])", (keys,))
            self.put(rows)

    def found(self, keys: Sequence[bytes]) -> list[StoredRow]:
        return [(row[0], row[1], row[2], row[3], row[4]) for row in self._ask(_FOUND, list(keys))]

    def replace_messages(self, messages: Sequence[QueuedMessage], version: int) -> None:
        with self._refusals(), self._session.transaction(), self._session.cursor() as cursor:
            cursor.execute("delete from deno_kv.queue")
            cursor.executemany(
                "insert into deno_kv.queue (at_ms, id, data, backoff_schedule, keys_if_undelivered)"
                " values (%s, %s, %s, %s, %s)",
                messages,
            )
            cursor.execute(_SET_VERSION, (version,))
        self._ask("analyze deno_kv.kv")

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._refusals(), self._session.cursor() as cursor:
            cursor.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise errors.refused(self._place, error) from error
