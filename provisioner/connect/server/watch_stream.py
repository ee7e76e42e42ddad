"""Streams: of a watch, the state of its keys at the start, and again when one of them has changed; until it is ended.

The stream hands everything to the network without saying whether the client reads it. So a stream ends after a number of
bytes, and the client, which must be able to restart anyway, restarts: one that does not read gets no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.connect.server.decode import KEEP_ALIVE, watch_frame
from provisioner.kv.client.async_bridge import AsyncBridge, waker
from provisioner.kv.errors import Closed
from provisioner.kv.model import ReadRange
from provisioner.kv.store import Store, Subscription

KEEP_ALIVE_SECONDS: Final = 5.0
MOST_BYTES: Final = 16 * 1024 * 1024


class ByteStream(Protocol):
    async def send_bytes(self, data: bytes, /) -> None: ...


Subscribe = Callable[[Store, Callable[[], None]], Subscription]
Frame = Callable[[bool], Awaitable[bytes | None]]
"""The next frame, if there is news. Its argument: whether something woke the stream, or only time has passed."""


class WatchStream:
    """One stream, of a watch or of the queue. `streams` is true once it has started to answer."""

    def __init__(self, database: OpenDatabase) -> None:
        self.streams = False
        self._database = database
        self._ended = False
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Let the stream end: its token no longer opens the database, or the server stops."""
        self._ended = True
        self._changed.set()

    def waker(self) -> Callable[[], None]:
        """Lets the stream look for news, from any thread."""
        return waker(self._changed)

    async def run(self, frame: Frame, begin: Callable[[], ByteStream]) -> None:
        """Serve it to its end. Raises KvError where the storage fails, ProtocolClosed where the client leaves."""
        self._database.watchers.add(self.end)
        try:
            await self._send_all(frame, begin)
        except Closed:
            return
        finally:
            self._database.watchers.discard(self.end)

    async def _send_all(self, frame: Frame, begin: Callable[[], ByteStream]) -> None:
        sent = 0
        stream: ByteStream | None = None
        woken = True
        while not self._ended and self._database.ended is None and sent < MOST_BYTES:
            self._changed.clear()
            data = await frame(woken)
            if stream is None:
                stream = begin()
                self.streams = True
            if data is not None:
                sent += len(data)
                await stream.send_bytes(data)
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await self._changed.wait()
                woken = True
            except TimeoutError:
                woken = False
                await stream.send_bytes(KEEP_ALIVE)


class WatchedKeys:
    """The frames of a watch on some keys."""

    def __init__(self, work: AsyncBridge, keys: Sequence[bytes]) -> None:
        self._work = work
        self._keys = keys
        self._ranges = [ReadRange(key, key + b"\0", 1) for key in keys]
        self._seen: list[bytes | None] | None = None

    def subscribe(self, store: Store, wake: Callable[[], None]) -> Subscription:
        return store.watch(self._keys, wake)

    async def frame(self, _: bool) -> bytes | None:
        """The changes, even if only time has passed: then no event has reported them."""
        entries = [found[0] if found else None for found in await self._work.read(self._ranges)]
        stamps = [entry and entry.versionstamp for entry in entries]
        if stamps == self._seen:
            return None
        self._seen = stamps
        return watch_frame(entries)
