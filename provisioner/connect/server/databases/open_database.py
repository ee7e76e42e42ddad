"""One open database of the server, with those who use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from provisioner.connect.protocol.http_errors import Refused
from provisioner.core.ids import DatabaseId
from provisioner.kv.client.async_bridge import AsyncBridge
from provisioner.kv.client.read_coalescing import ReadCoalescer
from provisioner.kv.local_store import DirectStore, ReadTransaction, Row
from provisioner.kv.model import ReadRange
from provisioner.registry.locations import DatabaseLocation


class OpenDatabase:
    """An open one. `users` are the requests that have it in their hands, `watchers` what to call to end each watch.
    `light`: its last long answer took almost no time, so the next one does not need a thread."""

    __slots__ = (
        "due",
        "ended",
        "eventual",
        "id",
        "light",
        "pinned",
        "place",
        "reads",
        "store",
        "timer",
        "used",
        "users",
        "watchers",
        "work",
    )

    def __init__(
        self, database_id: DatabaseId, place: DatabaseLocation, store: DirectStore, work: AsyncBridge, used: int
    ) -> None:
        self.id = database_id
        self.place = place
        self.store = store
        self.work = work
        self.used = used
        self.users = 0
        self.light = False
        self.pinned: ReadTransaction | None = None
        self.reads: ReadCoalescer[list[Row]] | None = None
        self.eventual: ReadCoalescer[tuple[list[Row], bool]] | None = None
        self.watchers: set[Callable[[], None]] = set()
        self.ended: Refused | None = None
        self.due: int | None = None
        self.timer: asyncio.TimerHandle | None = None

    def rows(self, ranges: Sequence[ReadRange], loop: asyncio.AbstractEventLoop, crowded: bool) -> list[list[Row]]:
        """Read at once. In a crowd, all who read in one turn of the loop see one state, which is cheaper.

        No callback reports the past: the state ends by a callback that is scheduled before it starts. Callbacks run in the
        order in which they were planned, so who reads in this state had come before it began.
        """
        if self.pinned is None:
            if not crowded:
                return self.store.rows(ranges)
            loop.call_soon(self._end_snapshot)
            self.pinned = self.store.pinned()
        return self.pinned.rows(ranges)

    def _end_snapshot(self) -> None:
        if self.pinned is not None:
            self.pinned.close()
            self.pinned = None
