"""SQLite's refusals, with the reason if its own words do not contain one."""

from __future__ import annotations

import os

import apsw

from provisioner.kv.errors import KvError, StoreFailed, Unreachable

FENCED = "moved_"
"""The start of the names of tables in a fenced file; see sqlite_whole.py."""


def refused(path: str, error: apsw.Error) -> StoreFailed:
    """On a full disk SQLite also says "disk I/O error", or that it cannot open the file: it cannot create its index."""
    full = isinstance(error, apsw.FullError)
    if full or (isinstance(error, apsw.IOError | apsw.CantOpenError) and _is_full(path)):
        return StoreFailed(f"{path}: disk full: no space or no inodes are left")
    if isinstance(error, apsw.SQLError) and str(error).startswith("no such table: "):
        return Unreachable(f"{path}: this database is moving or has moved. Restart the program")
    return StoreFailed(f"{path}: {error}")


def is_damage(error: KvError) -> bool:
    """Did SQLite refuse because the file is not, or no longer, a database in order?"""
    return isinstance(error.__cause__, apsw.CorruptError | apsw.NotADBError)


def _is_full(path: str) -> bool:
    try:
        space = os.statvfs(os.path.dirname(os.path.abspath(path)))
    except OSError:
        return False
    return space.f_bavail == 0 or (space.f_files > 0 and space.f_favail == 0)
