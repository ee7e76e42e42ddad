"""PostgreSQL's refusals in provisioner's words, and those that are temporary."""

from __future__ import annotations

from typing import Final

import psycopg

from provisioner.kv.errors import Busy, KvError, StoreFailed, Unreachable

# The server ends or begins, has no connection to spare, is a standby now, or rolled back for another's sake.
_PASSING: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "53300", "25006", "40001", "40P01")
_FULL: Final = ("too many clients", "remaining connection slots", "too many connections")  # where a connection begins
_CONNECTION: Final = "08"
_HELD: Final = ("55P03", "57014")  # no lock, or no answer, in the time that the session allows
_DISK_FULL: Final = "53100"
_NO_TABLES: Final = ("42P01", "3F000")


def passes(error: psycopg.Error) -> bool:
    """May the same go well in a moment? Also where the server cannot be reached: another may take its place."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate in _PASSING or error.sqlstate.startswith(_CONNECTION)


def is_full(error: psycopg.Error) -> bool:
    """Has the server no connection to spare? Refusals of new connections bring no code."""
    return error.sqlstate == "53300" or (error.sqlstate is None and any(words in str(error) for words in _FULL))


def certain(error: psycopg.Error) -> bool:
    """Whether it was certainly not done: the server says so, or it was never sent. If the session ends, that is unknown."""
    if error.sqlstate is None:
        return not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.diag.severity_nonlocalized == "ERROR"


def refused(place: str, error: psycopg.Error) -> KvError:
    if passes(error):
        return Unreachable(f"{place}: {_said(error)}")
    if error.sqlstate in _HELD:
        return Busy(f"{place}: others held the database for too long ({_said(error)})")
    if error.sqlstate == _DISK_FULL:
        return StoreFailed(f"{place}: disk full: {_said(error)}")
    if error.sqlstate in _NO_TABLES:
        return StoreFailed(f"{place} has no tables of Deno KV ({_said(error)})")
    return StoreFailed(f"{place}: {_said(error)}")


def _said(error: psycopg.Error) -> str:
    """One line. PostgreSQL says what it cannot do, never a password."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(text.split())
