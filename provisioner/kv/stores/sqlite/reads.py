"""Reading ranges of keys from an SQLite file, on a connection that the caller has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from provisioner.kv.local_store import Row
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.sqlite.file import File

_POINT = "select k, v, v_encoding, version from kv where k = ?"
_RANGE = "select k, v, v_encoding, version from kv where k >= ? and k < ? order by k limit ?"
_REVERSE = "select k, v, v_encoding, version from kv where k >= ? and k < ? order by k desc limit ?"
NO_ENCODING = -1
_HOLD = "select version from data_version"


class SqliteReadTransaction:
    """One state of the database, until it is closed: several reads, each in a third of the time. For one thread."""

    __slots__ = ("_connection", "_file", "_holding")

    def __init__(self, file: File) -> None:
        self._file = file
        self._connection = file.reader()
        try:
            self._holding = self._connection.execute(_HOLD)  # not read to its end, so the state stays
        except apsw.Error as error:
            file.release(self._connection)
            raise file.failure(error) from error

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """As SqliteStore.rows."""
        try:
            return [rows(self._connection, wanted) for wanted in ranges]
        except apsw.Error as error:
            raise self._file.failure(error) from error

    def close(self) -> None:
        self._holding.close()
        self._file.release(self._connection)


def rows(connection: apsw.Connection, wanted: ReadRange) -> list[Row]:
    start, end, limit, reverse = wanted
    if end == start + b"\0":
        found: Any = connection.execute(_POINT, (start,))
    else:
        found = connection.execute(_REVERSE if reverse else _RANGE, (start, end, limit))
    read: list[Row] = found.fetchall()
    for _, value, encoding, version in read:
        if type(value) is not bytes or type(encoding) is not int or type(version) is not int:
            return [_readable(*row) for row in read]
    return read


def _readable(key: bytes, value: object, encoding: object, version: object) -> Row:
    """A row as a store has it; of one that is damaged, or that another program has written so, the readable part. What
    cannot be a value has no encoding: decoding it says so, and other keys stay readable."""
    whole = isinstance(value, bytes) and isinstance(encoding, int)
    return (
        key,
        value if isinstance(value, bytes) else b"",
        encoding if whole and isinstance(encoding, int) else NO_ENCODING,
        version if isinstance(version, int) else 0,
    )
