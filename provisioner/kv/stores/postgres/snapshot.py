"""One moment of a database on PostgreSQL: a transaction that reads, while others continue to write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import psycopg

from provisioner.kv.model import ReadRange, StoredRow
from provisioner.kv.stores.postgres import errors, statements
from provisioner.kv.stores.postgres.connection import PooledConnection, Row, Statement
from provisioner.kv.stores.postgres.schema import WRITING

_HOLD: Final = f"select pg_advisory_lock({WRITING})"
_LET_GO: Final = f"select pg_advisory_unlock({WRITING})"
_BEGIN: Final = "begin isolation level repeatable read read only"
_VERSION: Final = "select last_value from deno_kv.version"
# No writer waits for it, so it may stand still, and take its time.
_FOR_LONG: Final = (
    "select set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true)"
)
_ROWS: Final = f"{statements.ALL} where k >= %b order by k".encode()
_ROWS_BETWEEN: Final = f"{statements.ALL} where k >= %b and k < %b order by k".encode()
_COUNT: Final = "select count(*) from deno_kv.kv"
_FETCHED: Final = 500  # rows in a journey


class PostgresSnapshot:
    """On its own connection. `version` is that of the last commit in it: if it is `versioned`, writers wait while that
    is asked for."""

    whole = True
    expiry = True

    def __init__(self, line: PooledConnection, place: str, *, versioned: bool = True) -> None:
        self._line = line
        self._place = place
        self.version: int | None = _begun(line) if versioned else None
        if not versioned:
            line.ask(_BEGIN)
        line.ask(_FOR_LONG)
        line.until = float("inf")

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        """The entries in the order of their keys, some at a time."""
        asked, values = (_ROWS, (start,)) if end is None else (_ROWS_BETWEEN, (start, end))
        try:
            with self._line.cursor("entries", withhold=False) as cursor:
                cursor.itersize = _FETCHED
                cursor.execute(asked, values, binary=True)
                yield from cursor
        except psycopg.Error as error:
            raise errors.refused(self._place, error) from error

    def count(self) -> int | None:
        ((number,),) = self._asked((_COUNT, ()))
        return int(number)

    def end_by(self, deadline: float) -> None:
        self._line.until = deadline

    def read(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """As PostgresStore.rows."""
        return statements.read(ranges, self._asked(statements.reading(ranges)))

    def _asked(self, statement: Statement) -> list[Row]:
        try:
            return self._line.ask(*statement)
        except psycopg.Error as error:
            raise errors.refused(self._place, error) from error


def _begun(line: PooledConnection) -> int:
    """Begin behind every commit whose version is known: that of the last one."""
    line.ask(_HOLD)
    try:
        *_, ((version,),) = line.ask_all((_BEGIN, ()), (_VERSION, ()))
    finally:
        if not line.closed:
            line.ask(_LET_GO)
    return int(version)


class PostgresReadTransaction:
    """One moment, until it is closed: it keeps a connection."""

    def __init__(self, snapshot: PostgresSnapshot, stack: ExitStack) -> None:
        self._snapshot = snapshot
        self._stack = stack

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        return self._snapshot.read(ranges)

    def close(self) -> None:
        self._stack.close()
