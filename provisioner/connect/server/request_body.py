"""Reading what a request brings along: within a size, within a time, and without a stall."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

from provisioner.connect.protocol.http_errors import TOO_LARGE, Refused
from provisioner.connect.server.quickack import LARGE, STALLED_SECONDS, QuickAck

SECONDS: Final = 30
READ_ALONG: Final = 8192  # bytes that come with the headers, so that they are read even where nobody asks for them
LATE: Final = f"the body did not come within {SECONDS} seconds"


class Bodies:
    """Those that are on their way. A task that waits too long for one is cancelled."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], float] = {}
        self._quick_ack = QuickAck()

    async def read(self, scope: Any, protocol: Any, headers: Any, most: int) -> bytes:
        """All of it, which has at most `most` bytes. Raises Refused, or CancelledError where it comes too late."""
        length = headers.get("content-length")
        task: Any = asyncio.current_task()
        self._since[task] = started = perf_counter()
        try:
            if length is None or not length.isdigit():
                return await _pieces(protocol, most)
            size = int(length)
            if size > most:
                raise Refused(TOO_LARGE, f"a body has at most {most} bytes here, not {size}")
            quick_ack = self._quick_ack
            if size > LARGE or quick_ack.stalling:
                quick_ack.before(scope.client, size)
            body: bytes = await protocol()
            if perf_counter() - started > STALLED_SECONDS:
                quick_ack.stalled(scope.client)
        finally:
            del self._since[task]
        return body

    def close(self) -> None:
        self._quick_ack.close()

    def each_second(self) -> None:
        """Give up those that are late."""
        late = perf_counter() - SECONDS
        for task in [task for task, since in self._since.items() if since < late]:
            task.cancel()


def ends_connection(scope: Any, status: int) -> bool:
    """Does a refusal leave a body unread, which ends a connection of HTTP/1? Said in the answer, nobody uses it again."""
    if not scope.http_version.startswith("1"):
        return False
    length = scope.headers.get("content-length") or ""
    return status == TOO_LARGE or (length.isdigit() and int(length) > READ_ALONG)


async def _pieces(protocol: Any, most: int) -> bytes:
    """A body whose length nobody said."""
    pieces = []
    size = 0
    async for piece in protocol:
        size += len(piece)
        if size > most:
            raise Refused(TOO_LARGE, f"a body has at most {most} bytes here")
        pieces.append(piece)
    return b"".join(pieces)
