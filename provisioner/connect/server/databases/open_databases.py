"""The open databases: each is opened on first use, until it is idle for a while; never more than a limit.

All of it runs on the event loop's thread, but for what may wait for a disk, which runs in threads that all share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from provisioner.connect.protocol.http_errors import CONFLICT, NOT_FOUND, UNAVAILABLE, Refused
from provisioner.connect.server.databases.availability import refusal
from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.engines.open_store import open_store
from provisioner.kv.client.async_bridge import AsyncBridge
from provisioner.kv.client.read_coalescing import ReadCoalescer
from provisioner.kv.errors import Busy, KvError, Unreachable
from provisioner.kv.local_store import DirectStore, Replicated, Row
from provisioner.kv.model import ReadRange
from provisioner.registry.locations import DatabaseLocation, place_of, places_of
from provisioner.registry.store import Registry

Answer = TypeVar("Answer")
Log = Callable[..., None]

READERS: Final = 1  # with two, each list takes several times as long
THREADS: Final = 64  # a database that another process keeps locked holds one
FAR_THREADS: Final = 64  # of each server: requests over a network may hold many
IDLE_SECONDS: Final = 60
REST_SECONDS: Final = 5
CACHE_KIB: Final = 500  # more makes reads no faster, for the system has the file in memory
EVICTED_PART: Final = 20  # of those that are open, at a time
COLLECT_SECONDS: Final = 60  # what other processes wrote may expire unheard of for so long


class OpenDatabases:
    """`most` may be open at a time. `opened` is for looking up; `get` opens. `together` hears of how many writes shared a
    transaction. By `clock` (milliseconds since 1970) entries expire and messages are due."""

    def __init__(
        self,
        registry: Registry,
        most: int,
        log: Log,
        together: Callable[[int], None],
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.opened: dict[DatabaseId, OpenDatabase] = {}
        self.tick = 0  # seconds since the start
        self.clock = clock
        self._registry = registry
        self._most = most
        self._log = log
        self._together = together
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, "connect")
        self._far: dict[str, ThreadPoolExecutor] = {}  # by the location of the server
        self._readers = ThreadPoolExecutor(READERS, "connect reads")
        self._opening: dict[str, asyncio.Task[OpenDatabase]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def usable(self, database_id: DatabaseId) -> DatabaseLocation:
        """Its location. Raises Refused if this database cannot be used now."""
        place = place_of(self._registry, database_id)
        if (refused := refusal(place)) is not None:
            raise refused
        assert place is not None  # noqa: S101
        return place

    async def get(self, database_id: DatabaseId) -> OpenDatabase:
        """Open it, unless it is. Raises Refused."""
        if (database := self.opened.get(database_id)) is not None:
            return database
        task = self._opening.get(database_id)
        if task is None:
            task = self._loop.create_task(self._open(database_id))
            self._opening[database_id] = task
            task.add_done_callback(lambda _: self._opening.pop(database_id, None))
        return await asyncio.shield(task)

    async def call(self, database: OpenDatabase, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Call the store in a thread; it stays open until that returns."""
        return await self._in(self._threads_of(database.place), database, function, *arguments)

    def _threads_of(self, place: DatabaseLocation) -> ThreadPoolExecutor:
        if isinstance(place.location, FileLocation):
            return self._threads
        if place.location not in self._far:
            self._far[place.location] = ThreadPoolExecutor(FAR_THREADS, "connect far")
        return self._far[place.location]

    async def read(self, database: OpenDatabase, function: Callable[..., Answer], *arguments: object) -> Answer:
        """The same for what reads much and computes more than it waits: few of them at a time, for they would keep each
        other, and the event loop, from the interpreter."""
        return await self._in(self._readers, database, function, *arguments)

    def gathered(self, database: OpenDatabase, ranges: Sequence[ReadRange]) -> Awaitable[list[list[Row]]]:
        """Read from a store over a network, together with other requests of the same moment."""
        if database.reads is None:
            database.reads = ReadCoalescer(lambda wanted: self.call(database, database.store.rows, wanted))
        return database.reads.read(ranges)

    def eventual(self, database: OpenDatabase, ranges: Sequence[ReadRange]) -> Awaitable[list[tuple[list[Row], bool]]]:
        """Read what may be somewhat older, in the same way: the rows of each range, and whether they are the latest."""
        if database.eventual is None:
            database.eventual = ReadCoalescer(lambda wanted: self.call(database, _eventual, database.store, wanted))
        return database.eventual.read(ranges)

    async def _in(
        self, threads: ThreadPoolExecutor, database: OpenDatabase, function: Callable[..., Answer], *arguments: object
    ) -> Answer:
        database.users += 1
        try:
            return await self._loop.run_in_executor(threads, function, *arguments)
        finally:
            self.release(database)

    def release(self, database: OpenDatabase) -> None:
        """One user less; the last one of a database that has ended lets it be closed."""
        database.users -= 1
        if not database.users and database.ended is not None:
            self._close(database)

    def look_again(self) -> None:
        """The registry has changed: databases that are no longer connected end, as do ones whose file is another."""
        places = places_of(self._registry, self.opened)
        for database in list(self.opened.values()):
            place = places.get(database.id)
            refused = refusal(place)
            if refused is None and place is not None:
                if place.same_storage(database.place) and not database.store.moved():
                    continue
                refused = Refused(UNAVAILABLE, "the database is being moved")
            if place is not None and (place.switching or not place.same_storage(database.place)):
                database.store.give_up()
            self._end(database, refused or Refused(NOT_FOUND, "there is no such database"))

    def each_second(self) -> None:
        """Close idle databases, and look for entries that other processes let expire."""
        self.tick += 1
        for database in list(self.opened.values()):
            if self.tick - database.used == REST_SECONDS and not database.users:
                database.store.rest()
            if database.users or database.watchers:
                if not self.tick % COLLECT_SECONDS:
                    self.expect(database, self.clock())
            elif self.tick - database.used > IDLE_SECONDS:
                self._end(database, Refused(UNAVAILABLE, "the database has just been closed"))

    def expect(self, database: OpenDatabase, at: int) -> None:
        """Something expires at this time (milliseconds since 1970): then it is deleted, and watchers hear of it."""
        if database.ended is not None or (database.due is not None and database.due <= at):
            return
        if database.timer is not None:
            database.timer.cancel()
        database.due = at
        seconds = min(max(0, at - self.clock()) / 1000, COLLECT_SECONDS)
        database.timer = self._loop.call_later(seconds, self._collect, database)

    async def close(self) -> None:
        """Close all, in order that what was written is in its file. A server that does not answer is not waited for."""
        for database in list(self.opened.values()):
            database.store.give_up(at_once=True)
            self._end(database, Refused(UNAVAILABLE, "the server is shutting down"))
        while pending := {*self._tasks, *self._opening.values()}:
            await asyncio.wait(pending)
        self._threads.shutdown()
        for threads in self._far.values():
            threads.shutdown()
        self._readers.shutdown()

    async def _open(self, database_id: DatabaseId) -> OpenDatabase:
        place = self.usable(database_id)
        self._make_room()
        try:
            store, due = await self._loop.run_in_executor(self._threads_of(place), _opened, place, database_id)
        except (KvError, StorageFailed) as error:
            raise self.storage_failed(place.name, error) from error
        work = AsyncBridge(store, self._threads_of(place), self._together)
        database = OpenDatabase(database_id, place, store, work, self.tick)
        self.opened[database_id] = database
        try:
            if not self.usable(database_id).same_storage(place):  # or archived, which raises
                raise Refused(UNAVAILABLE, "the database is being moved")
        except Refused as refused:
            self._end(database, refused)
            raise
        if due is not None:
            self.expect(database, due)
        return database

    def storage_failed(self, name: str, error: Exception) -> Refused:
        """The answer to a client if the storage refuses. Paths and reasons are for the operator."""
        if isinstance(error, Busy):
            return Refused(UNAVAILABLE, f"database {name} is held by another process")
        if isinstance(error, Unreachable):
            self._log("warning", str(error), database=name)
            return Refused(UNAVAILABLE, f"the storage of database {name} cannot be reached")
        self._log("error", str(error), database=name)
        return Refused(CONFLICT, f"the storage of database {name} failed; the server's log says why")

    def _make_room(self) -> None:
        if len(self.opened) + len(self._opening) <= self._most:
            return
        idle = [database for database in self.opened.values() if not database.users and not database.watchers]
        if not idle:
            raise Refused(UNAVAILABLE, f"all of the databases that may be open, {self._most}, are in use")
        idle.sort(key=lambda database: database.used)
        for database in idle[: max(1, self._most // EVICTED_PART)]:
            self._end(database, Refused(UNAVAILABLE, "the database has just been closed"))

    def _end(self, database: OpenDatabase, refused: Refused) -> None:
        """No request gets it from now on; it is closed when the last one that has it is done."""
        if database.ended is not None:
            return
        database.ended = refused
        if self.opened.get(database.id) is database:
            del self.opened[database.id]
        if database.timer is not None:
            database.timer.cancel()
        for end in list(database.watchers):
            end()
        if not database.users:
            self._close(database)

    def _close(self, database: OpenDatabase) -> None:
        self._start(self._closed(database))

    async def _closed(self, database: OpenDatabase) -> None:
        try:
            await database.work.close()
        except KvError as error:
            self._log("error", str(error), database=database.place.name)

    def _collect(self, database: OpenDatabase) -> None:
        database.timer = database.due = None
        if database.ended is None:
            self._start(self._collected(database))

    async def _collected(self, database: OpenDatabase) -> None:
        try:
            _, due = await self.call(database, database.store.collect, self.clock())
        except KvError as error:
            self._log("error", f"expired entries could not be deleted: {error}", database=database.place.name)
            return
        if due is not None:
            self.expect(database, due)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _opened(place: DatabaseLocation, database_id: DatabaseId) -> tuple[DirectStore, int | None]:
    """The store, and when its first entry expires: found here, it adds nothing to the first request."""
    store = open_store(place, database_id, CACHE_KIB)
    try:
        return store, store.next_expiry()
    except KvError:
        store.close()
        raise


def _eventual(store: DirectStore, ranges: Sequence[ReadRange]) -> list[tuple[list[Row], bool]]:
    answers, latest = store.eventual_rows(ranges) if isinstance(store, Replicated) else (store.rows(ranges), True)
    return [(rows, latest) for rows in answers]
