"""Why the registry could not be read or written, in the user's words with the next step."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from enum import StrEnum
from typing import TypeVar

from provisioner.core.errors import StorageFailed
from provisioner.registry.home.disk_reserve import Reserve
from provisioner.registry.schema_version import VERSION, TooNew
from provisioner.system.home import Home

_OF_OTHER_TABLES = ("no such table", "no such column", "no such index", "no such trigger")
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OF_THE_SYSTEM = (
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOLFS),
)
_UNDECODABLE = "Could not decode to UTF-8"  # Python's own words, without a code
_NO_FILES_LEFT = (errno.EMFILE, errno.ENFILE)
_FULL = (errno.ENOSPC, errno.EDQUOT)

Known = TypeVar("Known", bound=StrEnum)


def member(kind: type[Known], value: object) -> Known:
    """The member with this value. Raises StorageFailed for an unknown one, because then the registry is damaged."""
    try:
        return kind(str(value))
    except ValueError as error:
        raise StorageFailed(
            f"the registry is corrupt: {str(value)[:40]!r} is not a {kind.__name__}", CORRUPT
        ) from error


_REPLACE = (
    "The databases are untouched. Stop what uses the home, move registry.db, registry.db-wal and registry.db-shm away"
    " together, and put a backup in their place"
)
CORRUPT = f"{_REPLACE}, or what this makes of a copy: sqlite3 registry.db .recover | sqlite3 new.db"


def corrupt(home: Home, problem: str) -> StorageFailed:
    """What to raise for a registry that is damaged."""
    return StorageFailed(f"{_the_registry(home)} is corrupt: {' '.join(problem.split())}", CORRUPT)


def is_damage(error: Exception) -> bool:
    """Does the error say that the file itself is damaged?"""
    undecodable = isinstance(error, UnicodeError) or str(error).startswith(("malformed", _UNDECODABLE))
    return undecodable or _code(error) in _DAMAGED


def replaced(home: Home) -> StorageFailed:
    """What to raise where the open registry is no longer the home's: what is written to it would be lost."""
    return StorageFailed(
        f"{_the_registry(home)} was replaced or removed while this program used it", "Restart this program"
    )


def refusal(home: Home, error: Exception) -> StorageFailed:
    """What to raise for an error of SQLite's or of the operating system's on the home's registry."""
    code, number = _code(error), getattr(error, "errno", None)
    if code in _LOCKED:
        return StorageFailed(
            f"{_the_registry(home)} is locked by another process",
            "Try again; 'provisioner doctor' shows which process holds it",
        )
    if is_damage(error):
        return corrupt(home, str(error))
    if str(error).startswith(_OF_OTHER_TABLES):
        return _of_other_tables(home, str(error))
    if code == sqlite3.SQLITE_FULL or number in _FULL:
        return _no_space(home)
    if code in _OF_THE_SYSTEM or number is not None:
        return _of_the_system(home, error)
    if code == sqlite3.SQLITE_NOMEM:
        return StorageFailed(f"{_the_registry(home)} cannot be read: out of memory", "Free memory, then run it again")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StorageFailed(
        f"{_the_registry(home)} refused a statement: {error} ({name})",
        "This is a bug in provisioner. Please report it. 'provisioner doctor' shows whether the registry is intact",
    )


def unreachable(home: Home) -> StorageFailed | None:
    """Why this process cannot write to the home and its registry; None if the system lets it."""
    if _read_only(home):
        return StorageFailed(
            f"{home.path} is on a read-only file system, so nothing can be changed in it",
            "If a disk error caused this, the system log shows it (dmesg). Then run: mount -o remount,rw",
        )
    try:
        os.close(os.open(home.registry, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return _by_number(home, error)
    if not os.access(home.path, os.W_OK | os.X_OK):
        return _not_this_users(home, os.strerror(errno.EACCES))
    return None


def _of_the_system(home: Home, error: Exception) -> StorageFailed:
    number = getattr(error, "errno", None)
    if number is not None and number not in (errno.EROFS, errno.EIO):
        return _by_number(home, error)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
        return replaced(home)
    if Reserve(home).short():
        return _no_space(home)
    if (problem := unreachable(home)) is not None:
        return problem
    name = getattr(error, "sqlite_errorname", "")
    return StorageFailed(
        f"{_the_registry(home)} cannot be read or written: {error}{f' ({name})' if name else ''}",
        "Check the disk (dmesg), quotas and 'ulimit -f', then run: provisioner doctor",
    )


def _by_number(home: Home, error: Exception) -> StorageFailed:
    number = getattr(error, "errno", None)
    if number in _NO_FILES_LEFT:
        return StorageFailed(
            f"{_the_registry(home)} cannot be opened: too many files are open", "Raise the limit: ulimit -n"
        )
    if number in _FULL:
        return _no_space(home)
    if number == errno.ENOENT:
        return replaced(home)
    return _not_this_users(home, str(error))


def _not_this_users(home: Home, why: str) -> StorageFailed:
    return StorageFailed(
        f"{_the_registry(home)} cannot be written by this user: {why}",
        f"Make {home.path} writable for the user that runs provisioner, or set PROVISIONER_HOME",
    )


def _of_other_tables(home: Home, problem: str) -> StorageFailed:
    """The error for a registry whose tables differ from this code's: it has another version, or another program changed it."""
    try:
        with closing(sqlite3.connect(f"file:{home.registry}?mode=ro", uri=True, timeout=1.0)) as registry:
            found: int = registry.execute("pragma user_version").fetchone()[0]
    except sqlite3.Error:
        found = VERSION
    if found > VERSION:
        return TooNew(home.registry, found)
    if found < VERSION:
        return StorageFailed(
            f"{_the_registry(home)} was replaced by an older one (of version {found}, not {VERSION}) while this program"
            " used it",
            "Restart this program",
        )
    return StorageFailed(f"{_the_registry(home)} was changed by another program: {problem}", _REPLACE)


def _no_space(home: Home) -> StorageFailed:
    return StorageFailed(f"no space is left for {_the_registry(home)}", "Free space or inodes there, then run it again")


def _read_only(home: Home) -> bool:
    try:
        return bool(os.statvfs(home.path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _code(error: Exception) -> int:
    """SQLite's primary code; 0 of any other error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _the_registry(home: Home) -> str:
    return f"the registry {home.registry}"
