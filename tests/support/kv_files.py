"""A database's file as SQLite sees it.

Through apsw, which `provisioner.kv` uses too: a process with two SQLite libraries has no locks between them, and the one
that closes the file last, as it thinks, deletes the log that the other writes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

Row = dict[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(60_000)
    try:
        yield connection
    finally:
        connection.close()


def rows(path: Path, table: str = "kv") -> list[Row]:
    """All rows of a table, in its order."""
    with opened(path) as connection:
        names = [column[1] for column in connection.execute(f"pragma table_info({table})")]
        return [dict(zip(names, row, strict=True)) for row in connection.execute(f"select * from {table}")]


def entry(path: Path, key: bytes) -> tuple[Any, ...] | None:
    """The value, its encoding and its expiry under a key."""
    with opened(path) as connection:
        statement = "select v, v_encoding, expiration_ms from kv where k = ?"
        found: tuple[Any, ...] | None = connection.execute(statement, (key,)).fetchone()
        return found


def integrity(path: Path) -> str:
    with opened(path) as connection:
        return str(connection.execute("pragma integrity_check").get)


def put(path: Path, key: bytes, value: object, encoding: object = 1) -> None:
    """Store bytes as nobody should."""
    with opened(path) as connection:
        statement = "insert into kv (k, v, v_encoding, version) values (?, ?, ?, 1)"
        connection.execute(statement, (key, value, encoding))


def restore(path: Path, before: dict[str, list[Row]]) -> None:
    """Make the tables what they were."""
    with opened(path) as connection, connection:
        for table, entries in before.items():
            connection.execute(f"delete from {table}")
            for row in entries:
                marks = ", ".join("?" * len(row))
                connection.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", tuple(row.values()))
