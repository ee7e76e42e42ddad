"""Copies of files that share their blocks where the file system can: xfs, btrfs, bcachefs, apfs."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from contextlib import suppress
from typing import Final

from provisioner.system import in_place

_FICLONE: Final = 0x40049409  # linux/fs.h
_AT_ONCE: Final = 64 << 20
_PIECE: Final = 1 << 20
_CANNOT: Final = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)
MODE: Final = 0o600


def copy(source: int, target: str) -> bool:
    """Make the file `target`, which is not there, of an open file; not synced. True where they share their blocks.

    Pages that are written at the same time come out old, new, or in parts. Raises OSError.
    """
    if sys.platform == "darwin" and _cloned_on_a_mac(source, target):
        return True
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        in_place.alike(source, fd)
        if _cloned(source, fd):
            return True
        done = 0
        while count := copy_range(source, fd, done, _AT_ONCE):
            done += count
    finally:
        os.close(fd)
    return False


def copy_range(source: int, target: int, offset: int, count: int) -> int:
    """Copy bytes to the same place of another open file. How many were copied; 0 at the end of the source."""
    if sys.platform == "linux":
        with suppress(OSError):  # a disk that is full, too: then what follows says so
            return os.copy_file_range(source, target, count, offset, offset)
    piece = os.pread(source, min(count, _PIECE), offset)
    return os.pwrite(target, piece, offset) if piece else 0


def _cloned(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _cloned_on_a_mac(source: int, target: str) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    at_the_working_directory = -2
    if library.fclonefileat(source, at_the_working_directory, os.fsencode(target), 0) == 0:
        os.chmod(target, MODE)
        return True
    if ctypes.get_errno() in (errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
