"""The pages of an SQLite file as one transaction sees them, those in the write-ahead log included.

The pages are read with the descriptors that SQLite has open: closing another one would release its locks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from struct import Struct, unpack_from
from typing import Any, Final

import apsw

from provisioner.kv.stores.sqlite.file_names import names
from provisioner.kv.stores.sqlite.open_files import descriptor

_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_MOST: Final = 64 * 1024 * 1024
_MX_FRAME: Final = 16  # where the index of the log says how many frames it has; in the machine's order of bytes
_number = Struct(">I").unpack_from


class UnknownFileLayout(Exception):  # noqa: N818 named for what happened
    """The file is not built as it should be, or not of the tables that are known."""


class FilePages:
    """The pages of one moment of a file. `log` are those whose latest state is in the log."""

    def __init__(self, descriptor: int, size: int, count: int, log: Mapping[int, bytes]) -> None:
        self.size = size
        self.count = count
        self.descriptor = descriptor
        self.log = log
        self.usable = size - self[1][20]

    def __getitem__(self, number: int) -> bytes:
        found = self.log.get(number)
        if found is None:
            found = os.pread(self.descriptor, self.size, (number - 1) * self.size)
        if len(found) != self.size:
            raise UnknownFileLayout(f"there is no page {number}")
        return found


def pages_of(connection: apsw.Connection) -> FilePages | None:
    """The pages as the open transaction of `connection` sees them; None where the system does not let us at them.

    The caller holds the write lock, so that the log's end is that of the transaction. Afterwards the log may
    grow, and be copied into the file: never what this transaction may still have to read.
    """
    main, log, index = (_descriptor(path) for path in names(connection))
    if main is None or log is None or index is None:
        return None
    (size,), (count,) = (_asked(connection, f"pragma {name}") for name in ("page_size", "page_count"))
    (frames,) = unpack_from("=I", os.pread(index, 4, _MX_FRAME))
    if frames * size > _WAL_MOST:
        return None
    width = _FRAME_HEADER + size
    data = os.pread(log, frames * width, _WAL_HEADER) if frames else b""
    if len(data) != frames * width:
        return None
    states = {_number(data, at)[0]: data[at + _FRAME_HEADER : at + width] for at in range(0, len(data), width)}
    return FilePages(main, size, count, states)


def _asked(connection: apsw.Connection, question: str) -> Any:
    return connection.execute(question).fetchall()[0]


def _descriptor(path: str) -> int | None:
    """One that this process, which is SQLite, has of a file."""
    try:
        return descriptor(path)
    except OSError:
        return None


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where it ends."""
    if data[at] < 0x80:
        return data[at], at + 1
    if data[at + 1] < 0x80:
        return (data[at] & 0x7F) << 7 | data[at + 1], at + 2
    found = 0
    for end in range(at, at + 8):
        found = found << 7 | data[end] & 0x7F
        if data[end] < 0x80:
            return found, end + 1
    return found << 8 | data[at + 8], at + 9
