"""Streams: of a watch, the state of its keys when it begins, and again whenever one of them has changed; until somebody ends it.

The stream hands everything to the network without saying whether the client reads it. So a stream ends after a number of
bytes, and the client, which has to be able to begin again anyway, begins again: one that does not read gets no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from provisioner.connect.convert import KEEP_ALIVE, watch_frame
from provisioner.connect.databases import Database
from provisioner.kv.errors import Closed
from provisioner.kv.loop import waker
from provisioner.kv.model import ReadRange
from provisioner.kv.store import Store, Subscription

KEEP_ALIVE_SECONDS: Final = 5.0
MOST_BYTES: Final = 16 * 1024 * 1024


class Stream(Protocol):
    async def send_bytes(self, data: bytes, /) -> None: ...


Subscribe = Callable[[Store, Callable[[], None]], Subscription]
Frame = Callable[[bool], bytes | None]
"""The next frame, if there is news. It is called with whether something woke the stream, or only time has passed."""


async def stream(
    database: Database,
    subscribe: Subscribe,
    frame: Frame,
    send: Callable[[], Stream],
    gone: asyncio.Future[Any],
    over: Callable[[], bool],
) -> None:
    """Serve one stream. `gone` is done when the client has left, `over` tells whether it may not go on."""
    changed = asyncio.Event()
    wake = waker(changed)
    subscription = await database.work.call(subscribe, database.store, wake)
    database.watchers.add(changed.set)
    gone.add_done_callback(lambda _: changed.set())
    try:
        await _send_all(database, frame, send(), changed, lambda: gone.done() or over())
    except (Closed, ConnectionError):
        return
    finally:
        database.watchers.discard(changed.set)
        subscription.close()
        gone.cancel()


class Watched:
    """The frames of a watch on some keys."""

    def __init__(self, database: Database, keys: Sequence[bytes]) -> None:
        self._database = database
        self._keys = keys
        self._ranges = [ReadRange(key, key + b"\0", 1) for key in keys]
        self._seen: list[bytes | None] | None = None

    def subscribe(self, store: Store, wake: Callable[[], None]) -> Subscription:
        return store.watch(self._keys, wake)

    def frame(self, _: bool) -> bytes | None:
        entries = [found[0] if found else None for found in self._database.store.read(self._ranges)]
        stamps = [entry and entry.versionstamp for entry in entries]
        seen, self._seen = self._seen, stamps
        news = [seen is None or stamp != seen[index] for index, stamp in enumerate(stamps)]
        return watch_frame(entries, news) if seen is None or any(news) else None


async def _send_all(
    database: Database, frame: Frame, stream: Stream, changed: asyncio.Event, over: Callable[[], bool]
) -> None:
    sent = 0
    woken = True
    while not over() and database.ended is None and sent < MOST_BYTES:
        changed.clear()
        if (data := frame(woken)) is not None:
            sent += len(data)
            await stream.send_bytes(data)
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await changed.wait()
            woken = True
        except TimeoutError:
            woken = False
            await stream.send_bytes(KEEP_ALIVE)
