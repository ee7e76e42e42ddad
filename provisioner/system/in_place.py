"""Files that a program may map into memory on a full disk.

SQLite maps a log's index, `-shm`, even to read. If the file system has no space for a block of a mapped file, the kernel ends the
process by SIGBUS. Btrfs writes a new block beside the one that is changed, unless the file is to be overwritten in place: that
needs no space. Other file systems overwrite anyway. But SQLite writes one byte in each 4 KiB of a new index: with smaller blocks,
those that are left out are missing until they are changed in memory. Such an index is created with all of its blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from _thread import get_ident
from contextlib import suppress

# https://man7.org/linux/man-pages/man2/ioctl_iflags.2.html
_GET = 0x80086601
_SET = 0x40086602
_IN_PLACE = 0x00800000  # FS_NOCOW_FL
_KEEP_SIZE = 1  # https://man7.org/linux/man-pages/man2/fallocate.2.html
_WRITTEN = 4096  # SQLite writes a byte in each of these
_INDEX = 32768  # the part of an index for the first 4062 pages of a log


def overwrite_new_files(directory: str) -> None:
    """Make btrfs overwrite files and directories that are created in this one from now on in place, if it can."""
    _set(directory, os.O_RDONLY | os.O_DIRECTORY)


def make(path: str, mode: int) -> None:
    """Create an empty file that is overwritten in place, if there is none. SQLite uses an existing file.

    Raises OSError if the disk has small blocks, and too few of them for the file.
    """
    if sys.platform == "linux" and has_small_blocks(os.path.dirname(path)):
        _allocate(path, mode)
    else:
        _set(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)


def has_small_blocks(directory: str) -> bool:
    """Whether SQLite leaves blocks of an index out there."""
    try:
        return os.statvfs(directory).f_bsize < _WRITTEN
    except OSError:
        return False


def make_index(database: str) -> None:
    """Create the index of an existing database's log with all of its blocks, if it has none, and if the disk has small blocks.

    Raises OSError if the disk has too few of them.
    """
    if sys.platform != "linux" or not has_small_blocks(os.path.dirname(database) or os.curdir):
        return
    try:
        like = os.stat(database)
    except OSError:
        return
    _allocate(f"{database}-shm", like.st_mode & 0o777, like)


def _allocate(path: str, mode: int, like: os.stat_result | None = None) -> None:
    """Create the file with all of its blocks, or not at all: without them another process could open it."""
    if os.path.lexists(path):
        return
    new = f"{path}.{os.getpid()}.{get_ident()}"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return  # its user will report why it cannot be created
    try:
        _fill(fd)
        if like is not None:  # as SQLite does
            os.fchmod(fd, mode)
            if os.geteuid() == 0:
                os.fchown(fd, like.st_uid, like.st_gid)
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.close(fd)
        os.unlink(new)


def _fill(fd: int) -> None:
    """SQLite changes the size of an index, and keeps the blocks behind its end."""
    from ctypes import CDLL, c_int64, get_errno

    if CDLL(None, use_errno=True).fallocate(fd, _KEEP_SIZE, c_int64(0), c_int64(_INDEX)) and get_errno() in (
        errno.ENOSPC,
        errno.EDQUOT,
    ):
        raise OSError(get_errno(), os.strerror(get_errno()))


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
