"""Locks between processes that die with their holder (``flock``)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from provisioner.core.errors import LockTimeout, StorageFailed
from provisioner.system.home import FILE_MODE


def try_lock(path: str) -> int | None:
    """A descriptor that holds the lock until it is closed, or None if another process holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise StorageFailed(f"cannot open the lock {path}: {error.strerror}", "Check the home directory") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return fd


@contextmanager
def if_free(path: str) -> Iterator[bool]:
    """Hold the lock for the block if no other process does; whether it is held."""
    fd = try_lock(path)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


@contextmanager
def locked(path: str, what: str, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock for the block; wait `timeout` seconds for another holder, then raise `Busy`."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while (fd := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"another process has been working on {what} for {timeout:.0f} s", "Try again when it has finished"
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    try:
        yield
    finally:
        os.close(fd)


def held_by(*paths: str) -> str:
    """The other processes that keep these files locked for writing, for people; empty if the system does not show them."""
    inodes = {str(os.stat(path).st_ino) for path in paths if os.path.exists(path)}
    if not os.path.exists("/proc/locks"):
        return ""
    with open("/proc/locks") as file:
        lines = [line.split() for line in file]
    found = {}
    for words in lines:  # "1: POSIX ADVISORY WRITE <pid> <major>:<minor>:<inode> <from> <to>"
        if len(words) >= 6 and words[3] == "WRITE" and words[5].rpartition(":")[2] in inodes:
            found[words[4]] = _command(words[4])
    found.pop(str(os.getpid()), None)
    return ", ".join(f"process {pid}{f' ({command})' if command else ''}" for pid, command in found.items())


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", errors="surrogateescape") as file:
            return " ".join(file.read().split("\0")).strip()[:80]
    except OSError:
        return ""
