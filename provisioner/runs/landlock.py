"""Landlock: the kernel refuses a process, and its children, whatever no rule allows. See landlock(7).

Light, and nothing but the standard library: the supervisor of a command imports it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from functools import cache

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_O_PATH = getattr(os, "O_PATH", 0)

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = (1 << bit for bit in range(8))
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(8, 16))
READ = EXECUTE | READ_FILE | READ_DIR
ANYTHING = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
ANYTHING |= REFER | TRUNCATE
DATA = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

WHOLE_ABI = 6
"""From this version of the interface on, everything that is used here is enforced."""


def abi() -> int:
    """The version of the kernel's interface; 0 if it has none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION))


def missing(version: int) -> tuple[str, ...]:
    """What a kernel with this version of the interface does not enforce."""
    since = (
        (3, "truncating files by name"),
        (4, "listening on TCP ports"),
        (6, "signals to other processes and abstract sockets"),
    )
    return tuple(what for first, what in since if version < first)


class Ruleset:
    """Rules, until `restrict` enforces them on this thread and what it starts. Each method raises OSError."""

    def __init__(self, *, listen: Iterable[int] | None, connect: Iterable[int] | None) -> None:
        self._abi = abi()
        if not self._abi:
            raise OSError(errno.ENOSYS, "the kernel has no Landlock")
        self._files = (1 << (13, 14, 15, 15, 16)[min(self._abi, 5) - 1]) - 1
        ports = [(_BIND_TCP, listen), (_CONNECT_TCP, connect)]
        net = sum(bit for bit, allowed in ports if allowed is not None) if self._abi >= 4 else 0
        scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if self._abi >= WHOLE_ABI else 0
        attributes = struct.pack("=QQQ", self._files, net, scoped)[
            : 8 if self._abi < 4 else 16 if self._abi < 6 else 24
        ]
        self._fd = _checked(_CREATE_RULESET, attributes, len(attributes), 0)
        for bit, allowed in ports if net else ():
            for port in allowed or ():
                _checked(_ADD_RULE, self._fd, _NET_PORT, struct.pack("=QQ", bit, port), 0)

    def allow(self, path: str, access: int) -> None:
        """Allow this at a path and below. A path that does not exist yet is not allowed later either."""
        try:
            fd = os.open(path, _O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                access &= _OF_FILES
            _checked(_ADD_RULE, self._fd, _PATH_BENEATH, struct.pack("=Qi", access & self._files, fd), 0)
        finally:
            os.close(fd)

    def restrict(self) -> None:
        """Enforce the rules permanently. The process must have no way to gain privileges."""
        _checked(_RESTRICT_SELF, self._fd, 0)
        os.close(self._fd)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return int(_libc().syscall(ctypes.c_long(number), *words))


def _checked(number: int, *arguments: int | bytes | None) -> int:
    found = _syscall(number, *arguments)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
