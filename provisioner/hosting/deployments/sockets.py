"""The TCP sockets of this machine, as Linux lists them: the listener of a port, and the number of its connections.

The kernel is asked for the sockets of a port (``sock_diag(7)``), and else its list of all sockets is read. That takes
milliseconds, however few there are, because the table that it goes through is as large as the machine.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_ESTABLISHED, _LISTENING = 1, 10
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST, _DUMP, _ERROR, _DONE = 0x1, 0x300, 2, 3
_PIECE = 1 << 16
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI2s46x")
_TOLD = struct.Struct("=BB2x2s2x16s16x12x16xI")


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A socket that listens. ``loopback``: only this machine can connect to it."""

    port: int
    inode: str
    loopback: bool


def listeners(port: int) -> list[ListeningSocket]:
    """The sockets that listen on a port."""
    return [
        ListeningSocket(port, inode, address in _LOOPBACK)
        for address, number, inode in _sockets(_LISTENING, port)
        if number == port
    ]


def connections(ports: set[int]) -> Counter[int]:
    """How many connections there are to each of these ports."""
    only = min(ports) if len(ports) == 1 else 0
    return Counter(number for _, number, _ in _sockets(_ESTABLISHED, only) if number in ports) if ports else Counter()


def belongs_to(listener: ListeningSocket, pid: int) -> bool:
    """Is it a socket of this process, or of one that descends from it?"""
    wanted = f"socket:[{listener.inode}]"
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        with suppress(OSError):
            for name in os.listdir(f"/proc/{current}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{current}/fd/{name}") == wanted:
                        return True
        waiting += _children(current)
    return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def _sockets(state: int, port: int) -> list[tuple[str, int, str]]:
    """Local address, port, and inode of each in a state; if `port` is not 0, at least of those with it."""
    try:
        return [each for family in (socket.AF_INET, socket.AF_INET6) for each in _asked(family, state, port)]
    except OSError:  # a kernel without it
        return list(_listed(state))


def _asked(family: int, state: int, port: int) -> Iterator[tuple[str, int, str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << state, port.to_bytes(2))
        kernel.send(_HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST | _DUMP, 0, 0) + asked)
        while True:
            data = memoryview(kernel.recv(_PIECE))
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel does not list its sockets")
                _, _, number, address, inode = _TOLD.unpack_from(data, _HEADER.size)
                words = struct.unpack("=4I", address)[: 1 if family == socket.AF_INET else 4]
                yield "".join(f"{word:08X}" for word in words), int.from_bytes(number), str(inode)
                data = data[(length + 3) & ~3 :]


def _listed(state: int) -> Iterator[tuple[str, int, str]]:
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path) as file:
                next(file, None)
                for line in file:
                    fields = line.split()
                    address, _, port = fields[1].partition(":")
                    if int(fields[3], 16) == state:
                        yield address, int(port, 16), fields[9]
        except FileNotFoundError:  # no IPv6, or another system
            continue
