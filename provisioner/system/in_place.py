"""Files whose blocks btrfs overwrites in place instead of writing new ones beside them.

SQLite maps a log's index, `-shm`, into memory, even to read. If btrfs has no space for a new block of a mapped file, the kernel
ends the process by SIGBUS. A block that is overwritten in place needs no space. Other file systems do so anyway.
"""

from __future__ import annotations

import fcntl
import os
import sys

# https://man7.org/linux/man-pages/man2/ioctl_iflags.2.html
_GET = 0x80086601
_SET = 0x40086602
_IN_PLACE = 0x00800000  # FS_NOCOW_FL


def overwrite_new_files(directory: str) -> None:
    """Make btrfs overwrite files and directories that are created in this one from now on in place, if it can."""
    _set(directory, os.O_RDONLY | os.O_DIRECTORY)


def make(path: str, mode: int) -> None:
    """Create an empty file that is overwritten in place, if there is none. SQLite uses an existing file."""
    _set(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)


def alike(source: int, target: int) -> None:
    """Set an open empty file to be overwritten like another one: only then can the two share blocks."""
    if sys.platform != "linux":
        return
    try:
        _change(target, _flags(source) & _IN_PLACE)
    except OSError:
        return  # the file system has no such flags


def _set(path: str, flags: int, mode: int = 0) -> None:
    if sys.platform != "linux":
        return
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, mode)
    except OSError:
        return  # it exists, or its user will report why it cannot be created
    try:
        _change(fd, _IN_PLACE)
    except OSError:
        return
    finally:
        os.close(fd)


def _flags(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _GET, bytes(8))[:4], sys.byteorder)


def _change(fd: int, wanted: int) -> None:
    flags = _flags(fd)
    if flags & _IN_PLACE != wanted:
        fcntl.ioctl(fd, _SET, (flags & ~_IN_PLACE | wanted).to_bytes(8, sys.byteorder))
