"""Reading what a request brings along: within a size, within a time, and without a stall."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any, Final

from provisioner.connect.protocol.http_errors import TOO_LARGE, UNAVAILABLE, Refused
from provisioner.connect.server.quickack import LARGE, STALLED_SECONDS, QuickAck
from provisioner.core.ids import DatabaseId

SECONDS: Final = 30
READ_ALONG: Final = 8192  # bytes that arrive with the headers, so that they are read in any case
HELD: Final = 256 * 1024 * 1024  # bytes of all bodies that are on their way, and
HELD_EACH: Final = 64 * 1024 * 1024  # of those to one database: one tenant must not take the room of the others
COUNTED: Final = 16_384  # bytes; smaller ones are limited by how many connections and streams there are
_DIGITS: Final = 15
LATE: Final = f"the body did not come within {SECONDS} seconds"


class RequestBodies:
    """The bodies in transit. A task that waits too long for one is canceled."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], float] = {}
        self._held: Counter[str] = Counter()
        self._quick_ack = QuickAck()

    async def read(self, scope: Any, protocol: Any, headers: Any, most: int, database_id: DatabaseId) -> bytes:
        """All of it, which has at most `most` bytes. Raises Refused, or CancelledError where it comes too late."""
        length = headers.get("content-length")
        size = int(length) if length is not None and length.isdigit() and len(length) <= _DIGITS else None
        counted = most if size is None else size
        if counted > most:
            raise Refused(TOO_LARGE, f"a body has at most {most} bytes here, not {counted}")
        if counted > COUNTED:
            self._hold(database_id, counted)
        task: Any = asyncio.current_task()
        self._since[task] = started = perf_counter()
        try:
            if size is None:
                return await _pieces(protocol, most)
            quick_ack = self._quick_ack
            if size > LARGE or quick_ack.stalling:
                quick_ack.before(scope.client, size)
            body: bytes = await protocol()
            if perf_counter() - started > STALLED_SECONDS:
                quick_ack.stalled(scope.client)
        finally:
            del self._since[task]
            if counted > COUNTED:
                self._let_go(database_id, counted)
        return body

    def _hold(self, database_id: DatabaseId, size: int) -> None:
        """Raises Refused where there is no room for it."""
        if self._held[database_id] + size > HELD_EACH or self._held.total() + size > HELD:
            raise Refused(UNAVAILABLE, "too many request bodies are in transit")
        self._held[database_id] += size

    def _let_go(self, database_id: DatabaseId, size: int) -> None:
        self._held[database_id] -= size
        if not self._held[database_id]:
            del self._held[database_id]

    def close(self) -> None:
        self._quick_ack.close()

    def each_second(self) -> None:
        """Give up those that are late."""
        late = perf_counter() - SECONDS
        for task in [task for task, since in self._since.items() if since < late]:
            task.cancel()


def ends_connection(scope: Any, status: int) -> bool:
    """Whether a refusal leaves a body unread, which ends a connection of HTTP/1. The answer says so to the client."""
    if not scope.http_version.startswith("1"):
        return False
    length = scope.headers.get("content-length") or ""
    long = not length.isdigit() or len(length) > _DIGITS or int(length) > READ_ALONG
    return status == TOO_LARGE or (long if length else "transfer-encoding" in scope.headers)


async def _pieces(protocol: Any, most: int) -> bytes:
    """A body of unknown length."""
    pieces = []
    size = 0
    async for piece in protocol:
        size += len(piece)
        if size > most:
            raise Refused(TOO_LARGE, f"a body has at most {most} bytes here")
        pieces.append(piece)
    return b"".join(pieces)
