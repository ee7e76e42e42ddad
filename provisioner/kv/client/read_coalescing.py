"""Reads that are asked for at the same time travel together, where each journey costs more than what it fetches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from provisioner.kv.model import ReadRange
from provisioner.kv.stores.group_commit import again

T = TypeVar("T")

FLIGHTS: Final = 4  # journeys at a time
MOST_READS: Final = 128  # of one journey
MOST_ENTRIES: Final = 2000


class ReadCoalescer(Generic[T]):
    """`fetch` reads ranges from one snapshot, and returns an answer for each; the snapshot must not be older than
    the call, unless reads may be older. For one event loop."""

    def __init__(self, fetch: Callable[[Sequence[ReadRange]], Awaitable[list[T]]]) -> None:
        self._fetch = fetch
        self._waiting: list[tuple[Sequence[ReadRange], asyncio.Future[list[T]]]] = []
        self._flights: set[asyncio.Task[None]] = set()

    def read(self, ranges: Sequence[ReadRange]) -> asyncio.Future[list[T]]:
        """The answers for the ranges, all from one snapshot. To be awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[T]] = loop.create_future()
        self._waiting.append((ranges, future))
        if len(self._flights) < FLIGHTS:
            flight = loop.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return future

    async def _fly(self) -> None:
        while taken := self._taken():
            try:
                answers = await self._fetch([each for ranges, _ in taken for each in ranges])
            except BaseException as error:
                for _, future in taken:
                    if not future.done():
                        future.set_exception(again(error))
                if not isinstance(error, Exception):
                    raise
                continue
            at = 0
            for ranges, future in taken:
                if not future.done():
                    future.set_result(answers[at : at + len(ranges)])
                at += len(ranges)

    def _taken(self) -> list[tuple[Sequence[ReadRange], asyncio.Future[list[T]]]]:
        """The next that fit together; at least one, if there is one."""
        count = entries = 0
        for ranges, _ in self._waiting:
            entries += sum(wanted.limit for wanted in ranges)
            if count and (count >= MOST_READS or entries > MOST_ENTRIES):
                break
            count += 1
        taken = self._waiting[:count]
        del self._waiting[:count]
        return taken
