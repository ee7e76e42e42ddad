"""Why the registry could not be read or written, in the user's words with the next step."""

from __future__ import annotations

import errno
import sqlite3

from provisioner.core.errors import StorageFailed
from provisioner.registry.disk_reserve import Reserve
from provisioner.system.home import Home


def refusal(home: Home, error: Exception) -> StorageFailed:
    """What to raise for an error of SQLite's or of the operating system's on the home's registry."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    where = f"the registry {home.registry}"
    if code == sqlite3.SQLITE_BUSY:
        return StorageFailed(
            f"{where} is locked by another process", "Try again; 'provisioner doctor' tells who holds it"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageFailed(
            f"{where} is corrupt: {error}", "The databases are untouched; see docs/operating.md, 'A corrupt registry'"
        )
    full = code == sqlite3.SQLITE_FULL or number == errno.ENOSPC
    if full or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and Reserve(home).short()):
        return StorageFailed(f"no space is left for {where}", "Free space or inodes there, then run it again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or number is not None:
        return StorageFailed(
            f"{where} cannot be written by this user: {error}",
            f"Make {home.path} writable for the user that runs provisioner, or set PROVISIONER_HOME",
        )
    return StorageFailed(f"{where} refused: {error}", "Run 'provisioner doctor'")
