"""The asynchronous client: the names of the synchronous one, to be awaited.

    async with await open_kv("shop.sqlite3") as kv:
        await kv.set(("users", 1), {"name": "Ann"})

Writes that are made while one is on its way to the disk travel together. Everything that may wait for a disk runs in
threads of the client's own; reads of a local file take microseconds and do not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self

from provisioner.kv.client import reads, sync_client
from provisioner.kv.client.async_bridge import AsyncBridge, Listener, waker
from provisioner.kv.client.atomic import Atomic, Duration, lone_set, result_of
from provisioner.kv.client.expiry import Collector
from provisioner.kv.codec.key import encode, point
from provisioner.kv.errors import Closed
from provisioner.kv.model import (
    COMMIT_VERSIONSTAMP,
    CommitFailed,
    CommitResult,
    CommitVersionstamp,
    Consistency,
    KeyLike,
    KeyToSet,
    KvEntry,
)
from provisioner.kv.store import Store


class Kv:
    """A key-value database in an event loop; see `provisioner.kv.Kv` for what each operation does."""

    def __init__(self, store: Store, *, clock: Callable[[], int] = sync_client.now) -> None:
        self._work = AsyncBridge(store)
        self._clock = clock
        self._collector = Collector(store, clock)
        self._closing = asyncio.Event()
        self._listeners: set[Listener] = set()

    async def get(self, key: KeyLike, *, consistency: Consistency = "strong") -> KvEntry[Any]:
        reads.consistent(consistency)
        (entries,) = await self._work.read((point(encode(key)),), consistency)
        return reads.got(key, entries)

    async def get_many(self, keys: Sequence[KeyLike], *, consistency: Consistency = "strong") -> list[KvEntry[Any]]:
        reads.consistent(consistency)
        found = await self._work.read(reads.points(keys), consistency)
        return [reads.found(key, entries) for key, entries in zip(keys, found, strict=True)]

    async def set(self, key: KeyToSet, value: object, *, expire_in: Duration | None = None) -> CommitResult:
        write = lone_set(key, value, expire_in, self._clock)
        return sync_client.done(result_of(write, await self._work.write(write), self._collector.expect))

    async def delete(self, key: KeyLike) -> None:
        await self.atomic().delete(key).commit()

    def list(
        self,
        prefix: KeyLike | None = None,
        *,
        start: KeyLike | None = None,
        end: KeyLike | None = None,
        limit: int | None = None,
        reverse: bool = False,
        cursor: str | None = None,
        batch_size: int | None = None,
        consistency: Consistency = "strong",
    ) -> KvList:
        reads.consistent(consistency)
        listing = reads.ListProgress(prefix, start, end, limit, reverse, cursor, batch_size)
        return KvList(self._work, listing, consistency)

    def atomic(self) -> AtomicOperation:
        return AtomicOperation(self._work, self._clock, self._collector.expect)

    def commit_versionstamp(self) -> CommitVersionstamp:
        return COMMIT_VERSIONSTAMP

    def watch(self, keys: Sequence[KeyLike]) -> KvWatch:
        return KvWatch(self._work, keys)

    async def enqueue(
        self,
        payload: object,
        *,
        delay: Duration = 0,
        backoff_schedule: Iterable[Duration] | None = None,
        keys_if_undelivered: Iterable[KeyLike] = (),
    ) -> CommitResult:
        atomic = self.atomic()
        atomic.enqueue(payload, delay=delay, backoff_schedule=backoff_schedule, keys_if_undelivered=keys_if_undelivered)
        return sync_client.done(await atomic.commit())

    async def listen_queue(self, handler: Callable[[Any], object]) -> None:
        """Call `handler`, a function or a coroutine function, with each message until the database is closed.

        Up to 100 run at a time. When the database is closed, those that run are waited for.
        """
        listener = Listener(self._work, self._clock, self._closing)
        self._listeners.add(listener)
        try:
            await listener.run(handler)
        finally:
            self._listeners.discard(listener)
            listener.ended.set()
            if self._closing.is_set() and not self._listeners:
                await self._shut()

    async def close(self) -> None:
        self._closing.set()
        if not any(listener.is_handling() for listener in self._listeners):
            for listener in tuple(self._listeners):
                await listener.ended.wait()
            await self._shut()

    async def _shut(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._collector.close)
        await self._work.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AtomicOperation(Atomic):
    def __init__(self, work: AsyncBridge, clock: Callable[[], int], expect: Callable[[int], None]) -> None:
        super().__init__(clock, expect)
        self._work = work

    async def commit(self) -> CommitResult | CommitFailed:
        write = self._write()
        return result_of(write, await self._work.write(write), self._expect)


class KvList:
    def __init__(self, work: AsyncBridge, listing: reads.ListProgress, consistency: Consistency) -> None:
        self._work = work
        self._listing = listing
        self._consistency = consistency

    @property
    def cursor(self) -> str:
        return self._listing.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KvEntry[Any]:
        listing = self._listing
        if listing.wants is not None:
            (entries,) = await self._work.read([listing.wants], self._consistency)
            listing.read(entries)
        entry = listing.hand_out()
        if entry is None:
            raise StopAsyncIteration
        return entry


class KvWatch:
    def __init__(self, work: AsyncBridge, keys: Sequence[KeyLike]) -> None:
        self._work = work
        self._watching = reads.Watching(keys)
        self._woken = asyncio.Event()
        self._woken.set()
        self._closed = False
        self._subscription = work.store.watch(self._watching.keys, waker(self._woken))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[KvEntry[Any]]:
        while not self._closed and self._watching.keys:
            await self._woken.wait()
            self._woken.clear()
            if self._closed:
                break
            try:
                entries = self._watching.changed(await self._work.read(self._watching.ranges))
            except Closed:
                break
            if entries is not None:
                return entries
        self.close()
        raise StopAsyncIteration

    def close(self) -> None:
        self._closed = True
        self._subscription.close()
        self._woken.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def open_kv(
    path_or_url: str | os.PathLike[str] | None = None, *, synchronous: str = "full", access_token: str | None = None
) -> Kv:
    """Open a database; see `provisioner.kv.open_kv`."""
    loop = asyncio.get_running_loop()
    store: Awaitable[Store] = loop.run_in_executor(
        None, lambda: sync_client.open_store(path_or_url, synchronous=synchronous, access_token=access_token)
    )
    return Kv(await store)
