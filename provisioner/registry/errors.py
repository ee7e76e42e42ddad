"""Why the registry could not be read or written, in the user's words with the next step."""

from __future__ import annotations

import errno
import sqlite3
from enum import StrEnum
from typing import TypeVar

from provisioner.core.errors import StorageFailed
from provisioner.registry.home.disk_reserve import Reserve
from provisioner.system.home import Home

_OF_OTHER_TABLES = ("no such table", "no such column", "malformed database schema")

Known = TypeVar("Known", bound=StrEnum)


def member(kind: type[Known], value: object) -> Known:
    """The member with this value. Raises StorageFailed for an unknown one, because then the registry is damaged."""
    try:
        return kind(str(value))
    except ValueError as error:
        raise StorageFailed(
            f"the registry is corrupt: {str(value)[:40]!r} is not a {kind.__name__}", CORRUPT
        ) from error


CORRUPT = (
    "The databases are untouched. Stop what uses the home, move registry.db, registry.db-wal and registry.db-shm away"
    " together, and put a backup in their place, or what this makes of a copy: sqlite3 registry.db .recover | sqlite3 new.db"
)


def corrupt(home: Home, problem: str) -> StorageFailed:
    """What to raise for a registry that cannot be read."""
    return StorageFailed(f"the registry {home.registry} is corrupt: {' '.join(problem.split())}", CORRUPT)


def refusal(home: Home, error: Exception) -> StorageFailed:
    """What to raise for an error of SQLite's or of the operating system's on the home's registry."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    where = f"the registry {home.registry}"
    if code == sqlite3.SQLITE_BUSY:
        return StorageFailed(
            f"{where} is locked by another process", "Try again; 'provisioner doctor' tells who holds it"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, UnicodeError):
        return corrupt(home, str(error))
    if str(error).startswith(_OF_OTHER_TABLES):  # the code that prepares its own statements knows its tables
        return corrupt(home, str(error))
    full = code == sqlite3.SQLITE_FULL or number == errno.ENOSPC
    if full or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and Reserve(home).short()):
        return StorageFailed(f"no space is left for {where}", "Free space or inodes there, then run it again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or number is not None:
        return StorageFailed(
            f"{where} cannot be written by this user: {error}",
            f"Make {home.path} writable for the user that runs provisioner, or set PROVISIONER_HOME",
        )
    return StorageFailed(f"{where} refused: {error}", "Run 'provisioner doctor'")
