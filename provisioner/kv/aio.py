"""The asynchronous client: the names of the synchronous one, to be awaited.

    async with await open_kv("shop.sqlite3") as kv:
        await kv.set(("users", 1), {"name": "Ann"})

Writes that are made while one is on its way to the disk travel together. Everything that may wait for a disk runs in
threads of the client's own; reads of a local file take microseconds and do not.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from provisioner.kv import client, request
from provisioner.kv import value as values
from provisioner.kv.errors import Closed
from provisioner.kv.expiry import Collector
from provisioner.kv.key import encode, point
from provisioner.kv.model import (
    COMMIT_VERSIONSTAMP,
    AtomicWrite,
    CommitFailed,
    CommitResult,
    CommitVersionstamp,
    Consistency,
    KeyLike,
    KeyToSet,
    KvEntry,
    Message,
    RawEntry,
    ReadRange,
)
from provisioner.kv.queue import LONGEST_WAIT, MOST_RUNNING, Renewer, seconds_until
from provisioner.kv.store import Outcome, Store

T = TypeVar("T")
THREADS = 4

_log = logging.getLogger("provisioner.kv")


class _Work:
    """A store, asked from an event loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._threads = ThreadPoolExecutor(THREADS, "kv")
        self._waiting: list[tuple[AtomicWrite, asyncio.Future[Outcome]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise Closed("the database is closed") from error
            raise

    async def read(self, ranges: Sequence[ReadRange]) -> list[list[RawEntry]]:
        if self.store.prompt:
            return self.store.read(ranges)
        return await self.call(self.store.read, ranges)

    async def write(self, write: AtomicWrite) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        """One transaction after the other, each for all who wait by then."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._write(waiting)
        finally:
            self._writing = None

    async def _write(self, waiting: list[tuple[AtomicWrite, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self.call(self.store.write, [write for write, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), outcome in zip(waiting, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def close(self) -> None:
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.get_running_loop().run_in_executor(None, self.store.close)
        self._threads.shutdown(wait=False)


class Kv:
    """A key-value database in an event loop; see `provisioner.kv.Kv` for what each operation does."""

    def __init__(self, store: Store, *, clock: Callable[[], int] = client.now) -> None:
        self._work = _Work(store)
        self._clock = clock
        self._collector = Collector(store, clock)
        self._closing = asyncio.Event()
        self._listeners: set[_Listener] = set()

    async def get(self, key: KeyLike, *, consistency: Consistency = "strong") -> KvEntry[Any]:
        request.consistent(consistency)
        (entries,) = await self._work.read((point(encode(key)),))
        return request.got(key, entries)

    async def get_many(self, keys: Sequence[KeyLike], *, consistency: Consistency = "strong") -> list[KvEntry[Any]]:
        request.consistent(consistency)
        found = await self._work.read(request.points(keys))
        return [request.found(key, entries) for key, entries in zip(keys, found, strict=True)]

    async def set(self, key: KeyToSet, value: object, *, expire_in: request.Duration | None = None) -> CommitResult:
        return client.done(await self.atomic().set(key, value, expire_in=expire_in).commit())

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
        request.consistent(consistency)
        return KvList(self._work, request.Listing(prefix, start, end, limit, reverse, cursor, batch_size))

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
        delay: request.Duration = 0,
        backoff_schedule: Iterable[request.Duration] | None = None,
        keys_if_undelivered: Iterable[KeyLike] = (),
    ) -> CommitResult:
        atomic = self.atomic()
        atomic.enqueue(payload, delay=delay, backoff_schedule=backoff_schedule, keys_if_undelivered=keys_if_undelivered)
        return client.done(await atomic.commit())

    async def listen_queue(self, handler: Callable[[Any], object]) -> None:
        """Call `handler`, a function or a coroutine function, with each message until the database is closed.

        Up to 100 run at a time. When the database is closed, those that run are waited for.
        """
        listener = _Listener(self._work, self._clock, self._closing)
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
        if not any(listener.is_handling(asyncio.current_task()) for listener in self._listeners):
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


class AtomicOperation(request.Atomic):
    def __init__(self, work: _Work, clock: Callable[[], int], expect: Callable[[int], None]) -> None:
        super().__init__(clock, expect)
        self._work = work

    async def commit(self) -> CommitResult | CommitFailed:
        write = self._write()
        return self._result(write, await self._work.write(write))


class KvList:
    def __init__(self, work: _Work, listing: request.Listing) -> None:
        self._work = work
        self._listing = listing

    @property
    def cursor(self) -> str:
        return self._listing.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KvEntry[Any]:
        listing = self._listing
        if listing.wants is not None:
            (entries,) = await self._work.read([listing.wants])
            listing.read(entries)
        entry = listing.hand_out()
        if entry is None:
            raise StopAsyncIteration
        return entry


class KvWatch:
    def __init__(self, work: _Work, keys: Sequence[KeyLike]) -> None:
        self._work = work
        self._watching = request.Watching(keys)
        self._woken = asyncio.Event()
        self._woken.set()
        self._closed = False
        self._subscription = work.store.watch(self._watching.keys, _waker(self._woken))

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


def _waker(event: asyncio.Event) -> Callable[[], None]:
    """Sets the event from any thread."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    return wake


class _Listener:
    def __init__(self, work: _Work, clock: Callable[[], int], closing: asyncio.Event) -> None:
        self._work = work
        self._clock = clock
        self._closing = closing
        self._woken = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()

    def is_handling(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task is a handler of ours, which must not be waited for by itself."""
        return task in self._running

    async def run(self, handler: Callable[[Any], object]) -> None:
        subscription = self._work.store.watch_queue(_waker(self._woken))
        renewer = Renewer(self._work.store, self._clock)
        closing = asyncio.create_task(self._closing.wait())
        closing.add_done_callback(lambda _: self._woken.set())
        try:
            await self._loop(handler, renewer)
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in (*self._running, closing):
                task.cancel()
            subscription.close()
            await asyncio.gather(*self._running, return_exceptions=True)
            renewer.close()

    async def _loop(self, handler: Callable[[Any], object], renewer: Renewer) -> None:
        store = self._work.store
        while not self._closing.is_set():
            self._woken.clear()
            now = self._clock()
            _, deadline = await self._work.call(store.revive, now)
            messages: list[Message] = []
            due = None
            if free := MOST_RUNNING - len(self._running):
                messages, due = await self._work.call(store.claim, now, free)
            for message in messages:
                renewer.add(message)
                task = asyncio.create_task(self._handle(message, handler, renewer))
                self._running.add(task)
                task.add_done_callback(self._done)
            if not messages or len(self._running) >= MOST_RUNNING:
                wait = LONGEST_WAIT if not free else seconds_until(self._clock(), due, deadline)
                await _wait(self._woken, min(wait, LONGEST_WAIT))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._woken.set()

    async def _handle(self, message: Message, handler: Callable[[Any], object], renewer: Renewer) -> None:
        success = False
        try:
            result = handler(values.from_v8(message.payload))
            if inspect.isawaitable(result):
                await result
            success = True
        except Exception:
            _log.exception("the handler of a queue's message failed")
        finally:
            renewer.remove(message)
            await self._work.call(self._work.store.finish, message.id, success, self._clock())


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def open_kv(path_or_url: str | os.PathLike[str] | None = None, *, synchronous: str = "full") -> Kv:
    """Open a database; see `provisioner.kv.open_kv`."""
    loop = asyncio.get_running_loop()
    store: Awaitable[Store] = loop.run_in_executor(
        None, lambda: client.open_store(path_or_url, synchronous=synchronous)
    )
    return Kv(await store)
