"""The TCP sockets of this machine, as Linux lists them: the listener of a port, and the number of its connections."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_ESTABLISHED, _LISTENING = "01", "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


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
        for address, number, state, inode in _sockets()
        if state == _LISTENING and number == port
    ]


def connections(ports: set[int]) -> Counter[int]:
    """How many connections there are to each of these ports."""
    return Counter(number for _, number, state, _ in _sockets() if state == _ESTABLISHED and number in ports)


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


def _sockets() -> Iterator[tuple[str, int, str, str]]:
    """Local address, port, state, and inode of each."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path) as file:
                next(file, None)
                for line in file:
                    fields = line.split()
                    address, _, port = fields[1].partition(":")
                    yield address, int(port, 16), fields[3], fields[9]
        except FileNotFoundError:  # no IPv6, or another system
            continue
