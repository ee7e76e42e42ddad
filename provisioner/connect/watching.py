"""A watch: the state of its keys when it begins, and again whenever one of them has changed, until somebody ends it.

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

KEEP_ALIVE_SECONDS: Final = 5.0
MOST_BYTES: Final = 16 * 1024 * 1024


class Stream(Protocol):
    async def send_bytes(self, data: bytes, /) -> None: ...


async def watch(
    database: Database,
    keys: Sequence[bytes],
    send: Callable[[], Stream],
    gone: asyncio.Future[Any],
    over: Callable[[], bool],
) -> None:
    """Serve one watch. `gone` is done when the client has left, `over` tells whether it may not go on."""
    changed = asyncio.Event()
    wake = waker(changed)
    subscription = await database.work.call(database.store.watch, keys, wake)
    database.watchers.add(changed.set)
    gone.add_done_callback(lambda _: changed.set())
    try:
        await _send_all(database, keys, send(), changed, lambda: gone.done() or over())
    except (Closed, ConnectionError):
        return
    finally:
        database.watchers.discard(changed.set)
        subscription.close()
        gone.cancel()


async def _send_all(
    database: Database, keys: Sequence[bytes], stream: Stream, changed: asyncio.Event, over: Callable[[], bool]
) -> None:
    ranges = [ReadRange(key, key + b"\0", 1) for key in keys]
    seen: list[bytes | None] | None = None
    sent = 0
    while not over() and database.ended is None and sent < MOST_BYTES:
        changed.clear()
        entries = [found[0] if found else None for found in database.store.read(ranges)]
        stamps = [entry and entry.versionstamp for entry in entries]
        news = [seen is None or stamp != seen[index] for index, stamp in enumerate(stamps)]
        if seen is None or any(news):
            frame = watch_frame(entries, news)
            sent += len(frame)
            await stream.send_bytes(frame)
        seen = stamps
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await changed.wait()
        except TimeoutError:
            await stream.send_bytes(KEEP_ALIVE)
