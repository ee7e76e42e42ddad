"""Server-sent events: they notify a page of a change, and it fetches itself again.

https://html.spec.whatwg.org/multipage/server-sent-events.html is what browsers do with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

KEEP_ALIVE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0
MOST: Final = 256  # streams at the same time
_CHANGED: Final = "event: changed\ndata:\n\n"

State = Callable[[], Awaitable[object]]
"""A value that changes whenever the page does; None if there is nothing left to show."""


class Live:
    """The open streams, on one event loop. All wait for the registry; some also query a store each second."""

    def __init__(self) -> None:
        self.registry = 0
        self.ended = False
        self.streams = 0
        self._waiting: set[asyncio.Event] = set()

    def changed(self) -> None:
        """The registry has changed."""
        self.registry += 1
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    async def stream(
        self, may_go_on: Callable[[], Awaitable[bool]], state: State | None = None, made_from: str | None = None
    ) -> AsyncIterator[str]:
        """Events for one page, until its session ends, which is checked every ten seconds, and before each event.

        The state may already differ from the one that the page was `made_from`, if the page or its stream was delayed.
        """
        news = asyncio.Event()
        self._waiting.add(news)
        self.streams += 1
        try:
            seen = (self.registry, await state() if state else 0)
            yield "retry: 2000\n\n"
            if made_from is not None and (state or made_from != str(seen[0])):
                yield _CHANGED
            silent = 0.0
            pause = KEEP_ALIVE_SECONDS if state is None else LOOK_SECONDS
            while not self.ended and seen[1] is not None:
                try:
                    async with asyncio.timeout(pause):
                        await news.wait()
                except TimeoutError:
                    silent += pause
                news.clear()
                found = (self.registry, await state() if state else 0)
                if found == seen and silent < KEEP_ALIVE_SECONDS:
                    continue
                if self.ended or not await may_go_on():
                    break
                yield ": still here\n\n" if found == seen else _CHANGED
                seen, silent = found, 0.0
        finally:
            self.streams -= 1
            self._waiting.discard(news)

    def _wake(self) -> None:
        for news in self._waiting:
            news.set()
