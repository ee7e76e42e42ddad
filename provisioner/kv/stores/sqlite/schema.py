"""The SQLite file of a Deno KV database, as Deno's own migrations (version 3) make it.

A test compares ``.schema`` of ours with that of a file that the installed Deno made.
"""

from __future__ import annotations

import sqlite3
from functools import cache

from provisioner.kv.stores.sqlite import open_files

PAGE_SIZE = 4096
HEADER = b"SQLite format 3\0"

VERSION = 3

# The white space is Deno's: SQLite keeps the text of each statement, and `.schema` shows it.
_STATE = "CREATE TABLE migration_state(\n  k integer not null primary key,\n  version integer not null\n)"
_MIGRATIONS = (
    (
        "CREATE TABLE data_version (\n  k integer primary key,\n  version integer not null\n)",
        "insert into data_version (k, version) values (0, 0)",
        "CREATE TABLE kv (\n  k blob primary key,\n  v blob not null,\n  v_encoding integer not null,\n"
        "  version integer not null\n) without rowid",
    ),
    (
        "CREATE TABLE queue (\n  ts integer not null,\n  id text not null,\n  data blob not null,\n"
        "  backoff_schedule text not null,\n  keys_if_undelivered blob not null,\n\n  primary key (ts, id)\n)",
        "CREATE TABLE queue_running(\n  deadline integer not null,\n  id text not null,\n  data blob not null,\n"
        "  backoff_schedule text not null,\n  keys_if_undelivered blob not null,\n\n  primary key (deadline, id)\n)",
    ),
    (
        "alter table kv add column seq integer not null default 0",
        "alter table data_version add column seq integer not null default 0",
        "alter table kv add column expiration_ms integer not null default -1",
        "CREATE INDEX kv_expiration_ms_idx on kv (expiration_ms)",
    ),
)


def missing(version: int) -> tuple[str, ...]:
    """The statements that bring a file of this version to VERSION; -1 is a file without any table."""
    steps = [] if version >= 0 else [_STATE]
    for number, statements in enumerate(_MIGRATIONS, 1):
        if number > version:
            steps += (*statements, f"replace into migration_state (k, version) values (0, {number})")  # noqa: S608
    return tuple(steps)


@cache
def empty_file() -> bytes:
    """The bytes of an empty database, as real Deno continues it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"pragma page_size = {PAGE_SIZE}")
        for statement in missing(-1):
            connection.execute(statement)
        image = bytearray(connection.serialize())
    finally:
        connection.close()
    image[18:20] = b"\2\2"  # file format: write-ahead log, which a database in memory cannot have
    return bytes(image)


def why_not_a_database(path: str) -> str:
    """What is wrong with the file at `path` as a Deno KV database; empty where it is one.

    Looks at the first page alone, so it takes no lock and never disturbs who is writing. What this process has open is
    one.
    """
    with open_files.untouched(path) as free:
        if not free:
            return ""
        try:
            with open(path, "rb") as file:
                page = file.read(PAGE_SIZE)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
    if not page.startswith(HEADER) or len(page) < 512:
        return "is not an SQLite database"
    return ""


PUT = (
    "insert into kv (k, v, v_encoding, version, expiration_ms) values (?1, ?2, ?3, ?4, ?5)"
    " on conflict (k) do update set v = ?2, v_encoding = ?3, version = ?4, expiration_ms = ?5"
)
"""Store an entry, whatever is stored under its key."""
