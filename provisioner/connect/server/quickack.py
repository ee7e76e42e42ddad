"""Against a stall of 44 ms: what a client sends in pieces, one waiting for our acknowledgement of the other.

Deno's HTTP/2 client leaves Nagle's algorithm on and may send a body apart from its headers: the second piece waits until
the first one is acknowledged, and Linux puts acknowledgements off in the hope of an answer to send along. Asking for
TCP_QUICKACK when the headers have come sends the acknowledgement that is owed. The kernel forgets that wish, so it is said
at each request of a connection that has stalled once, and wherever a body is large. The server hands out no sockets; the
process finds them among its own descriptors by the addresses of the peers.
"""

from __future__ import annotations

import os
import socket
import sys
from time import perf_counter
from typing import Final

from provisioner.system.processes import DESCRIPTORS

LARGE: Final = 512  # bytes; such a body seldom comes with its headers
STALLED_SECONDS: Final = 0.02  # the kernel waits 40 ms
AGAIN_SECONDS: Final = 1.0
MOST: Final = 16_384  # connections that are remembered
_OPTION: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class QuickAck:
    """Connections that stall, by the address of the peer as in ``127.0.0.1:40312``.

    A descriptor that is remembered may belong to another connection by now. Then that one acknowledges earlier, which is
    harmless, and this one stalls once more, and is looked up again.
    """

    def __init__(self) -> None:
        self.stalling: dict[str, socket.socket | None] = {}
        self._found: dict[str, float] = {}  # when each of them was looked for
        self._works = _OPTION is not None and sys.platform == "linux" and os.path.isdir(DESCRIPTORS)

    def before(self, peer: str, size: int) -> None:
        """The headers of a request have come, its body of `size` bytes is going to be read."""
        if peer in self.stalling:
            self._acknowledge(peer)
        elif size > LARGE and self._works:
            self._find(peer)
            self._acknowledge(peer)

    def stalled(self, peer: str) -> None:
        """A body has taken long to arrive. If that has other reasons, as on a busy machine, looking would be too expensive."""
        if self._works and perf_counter() - self._found.get(peer, 0.0) > AGAIN_SECONDS:
            self._find(peer)

    def close(self) -> None:
        """Forget all of them. Without it their descriptors would be closed, whatever they have become by then."""
        for connection in self.stalling.values():
            self._let_go(connection)
        self.stalling.clear()
        self._found.clear()

    def _acknowledge(self, peer: str) -> None:
        connection = self.stalling[peer]
        if connection is None:
            return
        try:
            connection.setsockopt(socket.IPPROTO_TCP, _OPTION or 0, 1)
        except OSError:  # closed, and maybe a file's by now
            self._find(peer)

    def _find(self, peer: str) -> None:
        """Look through the descriptors, at about a microsecond each."""
        if len(self.stalling) >= MOST:
            self.close()
        self._let_go(self.stalling.get(peer))
        self.stalling[peer] = None
        self._found[peer] = perf_counter()
        for name in os.listdir(DESCRIPTORS):
            connection = _connected_to(int(name), peer)
            if connection is not None:
                self.stalling[peer] = connection
                return

    def _let_go(self, connection: socket.socket | None) -> None:
        """Without closing it: it is the server's."""
        if connection is not None:
            connection.detach()


def _connected_to(fd: int, peer: str) -> socket.socket | None:
    """The socket of this descriptor if its other end is `peer`."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if connection.family in (socket.AF_INET, socket.AF_INET6) and _address(connection.getpeername()) == peer:
            return connection
    except OSError:
        pass
    connection.detach()
    return None


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """As the server writes it."""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
