"""Files that survive a power cut whole or not at all: write beside, sync, rename, sync the directory."""

from __future__ import annotations

import os
import sys

from provisioner.system.home import FILE_MODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SYNC_ALL_FROM = 8  # files; from here one syncfs is cheaper than an fsync each


def write_file(path: str, data: bytes) -> None:
    """Write a new file without syncing it; an error if the path exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def sync_path(path: str) -> None:
    """fsync a file or a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: str) -> bool:
    """syncfs(2) on the file system that holds `path`; False if the platform has no such call.

    Linux reports write-back errors through it since 5.8, so a success means that all of it is on disk.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if library.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
    return True


def replace_file(path: str, data: bytes | Callable[[int], bytes], mode: int) -> None:
    """Replace `path` atomically with a whole file. `data` may be written through the new file's descriptor."""
    beside = f"{path}.{os.getpid()}.new"
    if os.path.lexists(beside):  # left by a process that was killed, or a link that another user put there
        os.unlink(beside)
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data if isinstance(data, bytes) else data(fd))
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    sync_path(os.path.dirname(path) or ".")
