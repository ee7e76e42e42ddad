"""Requests that wait for apps: one question for all of a host, and no more of them at a time than there is room for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass

from provisioner.hosting.router.waking import Waker, Woken

MOST = 1024  # requests that wait at a time, of some 20 KB each, and
MOST_EACH = 256  # of those for one host: the requests of one app must not take the room of the others


class Full(Exception):  # noqa: N818 - named for what happened
    """As many requests wait as may."""


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[Woken]
    asked: asyncio.Task[None]


class Pending:
    """For the thread of the event loop. The waker is called from threads of the executor."""

    def __init__(self, waker: Waker, threads: Executor) -> None:
        self._waker, self._threads = waker, threads
        self._waiting: Counter[str] = Counter()
        self._questions: dict[str, _Question] = {}

    @property
    def waiting(self) -> int:
        return self._waiting.total()

    @contextmanager
    def place(self, host: str) -> Iterator[None]:
        """For a request, while it waits. Raises Full."""
        if self._waiting.total() >= MOST or self._waiting[host] >= MOST_EACH:
            raise Full
        self._waiting[host] += 1
        try:
            yield
        finally:
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host]

    def answer(self, host: str, unreachable: int | None) -> asyncio.Future[Woken]:
        """What becomes of a host's app: the same for all that ask before it is known. It must be waited for with `asyncio.wait`,
        which does not cancel it. It raises what the waker raises."""
        found = self._questions.get(host)
        if found is None:
            answer: asyncio.Future[Woken] = asyncio.get_running_loop().create_future()
            found = _Question(answer, asyncio.ensure_future(self._ask(host, unreachable, answer)))
            self._questions[host] = found
            answer.add_done_callback(lambda _: self._questions.pop(host, None))
        return found.answer

    async def _ask(self, host: str, unreachable: int | None, answer: asyncio.Future[Woken]) -> None:
        loop = asyncio.get_running_loop()

        def done(future: Future[Woken]) -> None:
            try:
                loop.call_soon_threadsafe(settle, future)
            except RuntimeError:  # the gateway has ended
                return

        def settle(future: Future[Woken]) -> None:
            if answer.done():
                return
            error = future.exception() if not future.cancelled() else RuntimeError("it was given up")
            if error is not None:
                answer.set_exception(error)
                answer.exception()  # mark it as seen even if no request waits for it
            else:
                answer.set_result(future.result())

        try:
            woken = await loop.run_in_executor(self._threads, self._waker.wake, host, unreachable)
        except Exception as error:
            failed: Future[Woken] = Future()
            failed.set_exception(error)
            settle(failed)
        else:
            woken.add_done_callback(done)
