"""The database files that this process has open: only SQLite itself may open and close those.

The system's locks on a file belong to the process: closing any descriptor of the file lets go of all of them. SQLite
knows, and defers its own closing. Other code that reads a file checks here first; otherwise another process, taking itself for
the last one, deletes the write-ahead log that this one continues to write.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Identity = tuple[int, int]
"""Device and inode."""

_lock = threading.Lock()
_held: Counter[Identity] = Counter()


def identity(path: str) -> Identity | None:
    """None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def opening() -> Iterator[Callable[[Identity], None]]:
    """SQLite opens a file within the block, which then says which one: it is held until `let_go`."""
    with _lock:
        yield _hold


def _hold(file: Identity) -> None:
    _held[file] += 1


def let_go(file: Identity) -> None:
    """SQLite has closed it."""
    with _lock:
        _held[file] -= 1
        if not _held[file]:
            del _held[file]


@contextmanager
def untouched(path: str) -> Iterator[bool]:
    """True: this process does not have the file open, and will not until the block ends."""
    with _lock:
        yield identity(path) not in _held


def descriptor(path: str) -> int:
    """The descriptor by which SQLite in this process has the file open; not the caller's to close.

    It stays what it is until the connection is closed that the caller has on the database and has read with: as long as
    that holds its lock on the file, SQLite closes none of the process's descriptors of it. Raises OSError.
    """
    wanted = os.stat(path)
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        with suppress(OSError):  # closed in the meantime
            found = os.fstat(int(name))
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return int(name)
    raise FileNotFoundError(2, "is not open in this process", path)
