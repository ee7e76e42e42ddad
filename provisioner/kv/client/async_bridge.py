"""A store asked from an event loop: writes that wait travel together, and messages go to handlers that run at once."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from provisioner.kv.client.read_coalescing import ReadCoalescer
from provisioner.kv.codec import value
from provisioner.kv.errors import Closed
from provisioner.kv.model import AtomicWrite, Consistency, Message, RawEntry, ReadRange
from provisioner.kv.rules.queue import LONGEST_WAIT, MOST_RUNNING, Renewer, seconds_until
from provisioner.kv.store import Outcome, Store
from provisioner.kv.stores.group_commit import again

T = TypeVar("T")
THREADS: Final = 4
ELSEWHERE: Final = 32  # threads for a store over a network, so requests in flight

_log = logging.getLogger("provisioner.kv")


class AsyncBridge:
    """A store, asked from an event loop. Its threads are its own, unless it is given some that others use too."""

    def __init__(
        self,
        store: Store,
        threads: ThreadPoolExecutor | None = None,
        together: Callable[[int], None] | None = None,
    ) -> None:
        """`together` hears how many writes travel at once."""
        self.store = store
        self._together = together
        self._shared = threads is not None
        self._threads = threads or ThreadPoolExecutor(THREADS if store.prompt else ELSEWHERE, "kv")
        self._waiting: list[tuple[AtomicWrite, asyncio.Future[Outcome]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._reads: dict[Consistency, ReadCoalescer[list[RawEntry]]] = {
            "strong": ReadCoalescer(lambda ranges: self.call(store.read, ranges, "strong")),
            "eventual": ReadCoalescer(lambda ranges: self.call(store.read, ranges, "eventual")),
        }
        self._alone: set[asyncio.Task[Outcome]] = set()

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise Closed("the database is closed") from error
            raise

    async def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        if self.store.prompt:
            return self.store.read(ranges, consistency)
        if self.store.gathers:
            return await self._reads[consistency].read(ranges)
        return await self.call(self.store.read, ranges, consistency)

    def write(self, write: AtomicWrite) -> asyncio.Future[Outcome]:
        """To be awaited; no coroutine, since starting one for each write is felt."""
        loop = asyncio.get_running_loop()
        if not self.store.gathers:  # the server puts together what is on its way at the same time
            alone = loop.create_task(self._write_alone(write))
            self._alone.add(alone)
            alone.add_done_callback(self._alone.discard)
            return alone
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((write, future))
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        return future

    async def _write_alone(self, write: AtomicWrite) -> Outcome:
        return (await self.call(self.store.write, [write]))[0]

    async def _write_all(self) -> None:
        """One transaction after the other, each for all who wait by then."""
        try:
            while self._waiting:
                await asyncio.sleep(0)  # a task that was just answered may call again in this turn of the loop
                waiting, self._waiting = self._waiting, []
                if self._together is not None:
                    self._together(len(waiting))
                await self._write(waiting)
        finally:
            self._writing = None

    async def _write(self, waiting: list[tuple[AtomicWrite, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self.call(self.store.write, [write for write, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(again(error))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), outcome in zip(waiting, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def close(self) -> None:
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._alone:
            await asyncio.wait(self._alone)
        await asyncio.get_running_loop().run_in_executor(self._threads if self._shared else None, self.store.close)
        if not self._shared:
            self._threads.shutdown(wait=False)


def waker(event: asyncio.Event) -> Callable[[], None]:
    """Sets the event from any thread."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    return wake


_handling: ContextVar[Listener | None] = ContextVar("_handling", default=None)


class Listener:
    def __init__(self, work: AsyncBridge, clock: Callable[[], int], closing: asyncio.Event) -> None:
        self._work = work
        self._clock = clock
        self._closing = closing
        self._woken = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()

    def is_handling(self) -> bool:
        """Whether the caller is a handler of this store, or a task that one started: it must not wait for itself."""
        return _handling.get() is self

    async def run(self, handler: Callable[[Any], object]) -> None:
        subscription = self._work.store.watch_queue(waker(self._woken))
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
        _handling.set(self)
        try:
            result = handler(value.from_v8(message.payload))
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
