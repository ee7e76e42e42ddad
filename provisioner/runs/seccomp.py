"""A filter of system calls, for what Landlock has no rules for: sockets that other services of the machine listen on.

Without it a command would ask Docker or systemd, over the sockets that they have in the file system, to start what it may
not. Also refused are io_uring, which makes sockets past any filter, and calls that look into the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # in the kernel's struct seccomp_data
_X32 = 0x40000000
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_DATAGRAM, _TYPE = 2, 0xF


class _Machine(NamedTuple):
    audit: int
    socket: int
    socketpair: int
    listen: int
    refused: tuple[int, ...]
    """io_uring_setup, add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd, open_by_handle_at"""


_GENERIC = (425, 217, 218, 219, 280, 241, 282, 265)
_MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, 53, 50, (425, 248, 249, 250, 321, 298, 323, 304)),
    "aarch64": _Machine(0xC00000B7, 198, 199, 201, _GENERIC),
    "riscv64": _Machine(0xC00000F3, 198, 199, 201, _GENERIC),
}


def supported() -> bool:
    """Are the numbers of this machine's system calls known?"""
    return sys.platform == "linux" and platform.machine() in _MACHINES


def restrict(*, unix_sockets: bool, listening: bool) -> None:
    """Permanently filter the calls of this thread and its children. Raises OSError.

    The process must have no way to gain privileges.
    """
    program = _program(_MACHINES[platform.machine()], unix_sockets=unix_sockets, listening=listening)
    code = ctypes.create_string_buffer(program)
    description = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_ulong(_MODE_FILTER), description, ctypes.c_ulong(0), ctypes.c_ulong(0))
    if libc.prctl(_PR_SET_SECCOMP, *words):
        code_of = ctypes.get_errno()
        raise OSError(code_of, os.strerror(code_of))


def _program(machine: _Machine, *, unix_sockets: bool, listening: bool) -> bytes:
    families = (_INET, _INET6, _NETLINK, *((_UNIX,) if unix_sockets else ()))
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        _refuse(errno.ENOSYS),  # a program of another architecture, whose calls have other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _refuse(errno.ENOSYS),
    ]
    for number in machine.refused:
        steps += [(_EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    if not listening and not unix_sockets:
        steps += [(_EQUAL, 0, 1, machine.listen), _refuse(errno.EACCES)]
    steps += [(_EQUAL, 0, len(families) + 3, machine.socket), (_LOAD, 0, 0, _FIRST)]
    steps += [(_EQUAL, len(families) - place, 0, family) for place, family in enumerate(families)]
    steps += [_refuse(errno.EACCES), (_RETURN, 0, 0, _ALLOW)]
    if not unix_sockets:  # one of a pair could send to any other by name
        steps += [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, 4, machine.socketpair), (_LOAD, 0, 0, _SECOND)]
        steps += [(_AND, 0, 0, _TYPE), (_EQUAL, 0, 1, _DATAGRAM), _refuse(errno.EACCES)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _refuse(code: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, _ERRNO | code
