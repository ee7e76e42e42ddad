"""Connections to files that others may have changed: what they have put into the schema does not run in this process.

A trigger or a view may have a query without end, and a check or an index a pattern that takes as long. Deno KV's tables
have none of these.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from provisioner.system import in_place

LONGEST_PATTERN: Final = 4  # characters; a LIKE takes as long as the text to the power of its wildcards
_LONGEST_OF_SQLITE: Final = 18  # to rename a table, SQLite looks for names like 'sqliteX_autoindex%'
LARGEST_VALUE: Final = 64 << 20  # bytes; values of Deno KV have 64 KiB


def connect(path: str, flags: int, *, statements: int = 100) -> apsw.Connection:
    """A connection that has not read anything yet, and caches `statements` statements. Raises apsw.Error."""
    try:
        in_place.make_index(path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (apsw.FullError if full else apsw.CantOpenError)(f"{error.strerror}: {path}-shm") from error
    connection = apsw.Connection(path, flags, statementcachesize=statements)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.limit(apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_PATTERN)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    connection.execute("pragma ignore_check_constraints = on")
    return connection


@contextmanager
def renaming(connection: apsw.Connection) -> Iterator[None]:
    """Tables may be renamed in the block."""
    connection.limit(apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_OF_SQLITE)
    try:
        yield
    finally:
        connection.limit(apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_PATTERN)
