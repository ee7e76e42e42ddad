"""Opening the file: connections that wait for other processes, and the tables that Deno's migrations make."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import apsw

from provisioner.kv import schema
from provisioner.kv.errors import Busy, KvError, StoreFailed

Synchronous = Literal["full", "normal"]

BUSY_SECONDS: Final = 60.0  # how long to wait for other processes before it is Busy
# Between tries for the write lock. Shorter waits take more commits a second, and starve Deno, which waits up to 100 ms.
SHORTEST_WAIT: Final = 0.0005
LONGEST_WAIT: Final = 0.005


def connect(path: str, synchronous: Synchronous, must_exist: bool = False) -> apsw.Connection:
    """Raises apsw.Error."""
    create = 0 if must_exist else apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE | create, statementcachesize=40)
    connection.set_busy_handler(_Patience())
    connection.execute(f"pragma synchronous = {synchronous}")
    return connection


def prepare(connection: apsw.Connection) -> None:
    """Make the tables that are missing. Raises apsw.Error."""
    if connection.execute("pragma journal_mode").fetchall() != [("wal",)]:
        _into_wal(connection)
    if _migrated(connection) < schema.VERSION:
        with transaction(connection):
            for statement in schema.missing(_migrated(connection)):
                connection.execute(statement)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Holds the write lock from the start; durable at the end. Raises apsw.Error."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def failure(path: str, error: apsw.Error) -> KvError:
    """The same in our words."""
    if isinstance(error, apsw.BusyError):
        return Busy(f"{path}: another process held the database for {BUSY_SECONDS:.0f} seconds")
    return StoreFailed(f"{path}: {error}")


def number(rows: list[Any]) -> int:
    """The one number that was asked for; 0 if there is no row."""
    return rows[0][0] if rows else 0


def _into_wal(connection: apsw.Connection) -> None:
    """SQLite itself does not wait here for another process that does the same to a new file."""
    patience = _Patience()
    tries = 0
    while True:
        try:
            connection.execute("pragma journal_mode = wal").fetchall()
        except apsw.BusyError:
            if not patience(tries):
                raise
            tries += 1
        else:
            return


def _migrated(connection: apsw.Connection) -> int:
    """How many of Deno's migrations the file has; -1: none was ever made."""
    if not connection.execute("select 1 from sqlite_master where name = 'migration_state'").fetchall():
        return -1
    return number(connection.execute("select version from migration_state where k = 0").fetchall())


class _Patience:
    """Waits for other processes: a little at a time, by chance, so that none is always the last."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._since = now
        if now - self._since > BUSY_SECONDS:
            return False
        time.sleep(random.uniform(SHORTEST_WAIT, min(LONGEST_WAIT, SHORTEST_WAIT * (tries + 2))))  # noqa: S311
        return True
