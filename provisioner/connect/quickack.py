"""Against a stall of 44 ms: what a client sends in pieces, one waiting for our acknowledgement of the other.

Deno's HTTP/2 client leaves Nagle's algorithm on and sends a body above about 1 KB apart from its headers: the second
piece waits until the first one is acknowledged, and Linux puts acknowledgements off in the hope of an answer to send
along. Asking for TCP_QUICKACK when the headers have come sends the acknowledgement that is owed. The kernel forgets that
wish, so it is said at each such request. The server hands out no sockets; the process finds them by their addresses.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

_OPTION: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_DESCRIPTORS: Final = "/proc/self/fd"
_MOST: Final = 16_384  # addresses that are remembered


class QuickAck:
    """Descriptors by the address of the peer. What is remembered of a closed connection is harmless: at worst another
    one acknowledges earlier."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._works = _OPTION is not None and sys.platform == "linux" and os.path.isdir(_DESCRIPTORS)

    def acknowledge(self, peer: str) -> None:
        """Send what acknowledgement is owed to `peer`, as in ``127.0.0.1:40312``."""
        if not self._works:
            return
        fd = self._known.get(peer)
        if fd is not None and _ask(fd, peer):
            return
        self._look()
        fd = self._known.get(peer)
        if fd is not None:
            _ask(fd, peer)

    def _look(self) -> None:
        """Find all connections: a look costs about a microsecond for each open descriptor."""
        if len(self._known) > _MOST:
            self._known.clear()
        for name in os.listdir(_DESCRIPTORS):
            fd = int(name)
            if (peer := _peer(fd)) is not None:
                self._known[peer] = fd


def _ask(fd: int, peer: str) -> bool:
    """False where the descriptor is no longer that connection."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        if _address(connection.getpeername()) != peer:
            return False
        connection.setsockopt(socket.IPPROTO_TCP, _OPTION or 0, 1)
    except OSError:
        return False
    finally:
        connection.detach()  # it is the server's
    return True


def _peer(fd: int) -> str | None:
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return _address(connection.getpeername())
    except OSError:
        return None
    finally:
        connection.detach()


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """As the server writes it."""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
