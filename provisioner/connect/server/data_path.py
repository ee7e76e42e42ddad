"""The operations of KV Connect's data path: what a request asks of a database, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from provisioner.connect.protocol.http_errors import BAD_REQUEST, FAILED, FORBIDDEN, Refused
from provisioner.connect.server import decode, queue_handlers
from provisioner.connect.server.auth import TokenSession
from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.encode import read_answer
from provisioner.connect.server.metadata import EVENTUAL
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.request_body import RequestBodies
from provisioner.connect.server.streams import Streams
from provisioner.connect.server.watch_stream import Frame, Subscribe, WatchedKeys
from provisioner.kv.errors import Busy, Closed, KvError, StoreFailed, Uncertain
from provisioner.kv.model import ChecksFailed, Committed, ReadRange

Operation = Callable[[Any, Any, Any, TokenSession], Awaitable[int]]

_PROTOBUF: Final = [("content-type", "application/x-protobuf")]
_FEW: Final = 100  # this many entries are read at once; more in a thread, unless the last such answer was light
_CROWD: Final = 4  # requests at a time, of which some will be read in the same turn of the loop
_LIGHT: Final = 512 * 1024  # bytes, which take about a millisecond


class Traffic(Protocol):
    """What the server counts: the requests that are being answered, and how reads were."""

    in_flight: int
    metrics: Metrics


class DataPath:
    """`operations` are those of the protocol, by the part of a request's path behind the database's id."""

    def __init__(self, server: Traffic, databases: OpenDatabases, bodies: RequestBodies, streams: Streams) -> None:
        self._server = server
        self._databases = databases
        self._bodies = bodies
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self.operations: dict[str, Operation] = {
            "snapshot_read": self._snapshot_read,
            f"{EVENTUAL}/snapshot_read": self._eventual_read,
            "atomic_write": self._atomic_write,
            "watch": self._watch,
            **{path: partial(self._queue, handler) for path, handler in queue_handlers.HANDLERS.items()},
            queue_handlers.STREAM: self._news,
        }

    async def _snapshot_read(self, scope: Any, protocol: Any, headers: Any, session: TokenSession) -> int:
        ranges, total = decode.ranges_of(
            await self._bodies.read(scope, protocol, headers, decode.READ_BYTES, session.database_id)
        )
        for last in (False, True):
            database = self._databases.opened.get(session.database_id) or await self._databases.get(session.database_id)
            database.used = self._databases.tick
            try:
                if not database.store.prompt:
                    answer = read_answer(await self._databases.gathered(database, ranges))
                elif total <= _FEW or database.light:
                    answer = read_answer(database.rows(ranges, self._loop, self._server.in_flight > _CROWD))
                else:
                    answer = await self._databases.read(database, _answer, database, ranges)
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
        if total > _FEW:
            database.light = len(answer) <= _LIGHT
        protocol.response_bytes(200, _PROTOBUF, answer)
        return 200

    async def _eventual_read(self, scope: Any, protocol: Any, headers: Any, session: TokenSession) -> int:
        """At the endpoint that may lag."""
        ranges, _ = decode.ranges_of(
            await self._bodies.read(scope, protocol, headers, decode.READ_BYTES, session.database_id)
        )
        for last in (False, True):
            database = await self._database(session)
            try:
                answers = await self._databases.eventual(database, ranges)
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
        latest = all(latest for _, latest in answers)
        self._server.metrics.eventual_reads["primary" if latest else "standby"] += 1
        protocol.response_bytes(200, _PROTOBUF, read_answer([rows for rows, _ in answers], latest=latest))
        return 200

    async def _atomic_write(self, scope: Any, protocol: Any, headers: Any, session: TokenSession) -> int:
        _must_write(session)
        write = decode.write_of(
            await self._bodies.read(scope, protocol, headers, decode.WRITE_BYTES, session.database_id)
        )
        for last in (False, True):
            database = await self._database(session)
            database.users += 1
            try:
                outcome = await database.work.write(write)
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
            finally:
                self._databases.release(database)
        if not isinstance(outcome, (Committed, ChecksFailed)):
            raise Refused(BAD_REQUEST, str(outcome))
        if isinstance(outcome, Committed):
            expiries = [mutation.expire_at for mutation in write.mutations if mutation.expire_at > 0]
            if expiries:
                self._databases.expect(database, min(expiries))
        protocol.response_bytes(200, _PROTOBUF, decode.write_answer(outcome))
        return 200

    async def _watch(self, scope: Any, protocol: Any, headers: Any, session: TokenSession) -> int:
        keys = decode.watched_keys(
            await self._bodies.read(scope, protocol, headers, decode.WATCH_BYTES, session.database_id)
        )
        database = await self._database(session)
        watched = WatchedKeys(database.work, keys)
        return await self._stream(protocol, session, database, watched.subscribe, watched.frame)

    async def _queue(
        self, handler: queue_handlers.Handler, scope: Any, protocol: Any, headers: Any, session: TokenSession
    ) -> int:
        _must_write(session)
        body = await self._bodies.read(scope, protocol, headers, queue_handlers.REQUEST_BYTES, session.database_id)
        for last in (False, True):
            database = await self._database(session)
            try:
                answer = await self._databases.call(database, handler, database.store, body, self._databases.clock())
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
        protocol.response_bytes(200, _PROTOBUF, answer)
        return 200

    async def _news(self, scope: Any, protocol: Any, headers: Any, session: TokenSession) -> int:
        _must_write(session)
        await self._bodies.read(scope, protocol, headers, queue_handlers.REQUEST_BYTES, session.database_id)
        database = await self._database(session)
        return await self._stream(protocol, session, database, queue_handlers.subscribe, queue_handlers.news)

    async def _stream(
        self, protocol: Any, session: TokenSession, database: OpenDatabase, subscribe: Subscribe, frame: Frame
    ) -> int:
        self._server.in_flight -= 1
        try:
            await self._streams.serve(protocol, session.bearer, database, subscribe, frame)
        finally:
            self._server.in_flight += 1
        return 200

    async def _database(self, session: TokenSession) -> OpenDatabase:
        database = self._databases.opened.get(session.database_id)
        if database is None:
            database = await self._databases.get(session.database_id)
        database.used = self._databases.tick
        return database

    def _may_be_tried_again(self, database: OpenDatabase, error: KvError, last: bool) -> None:
        """A database that was closed under a request is opened again, once. Raises Refused for all else."""
        if isinstance(error, Closed) and not last:
            return
        if isinstance(error, Uncertain):  # a 5xx would make clients write it again
            self._databases.storage_failed(database.place.name, error)
            raise Refused(FAILED, "storage failed during the write, which may or may not be stored") from error
        if isinstance(error, (StoreFailed, Busy, Closed)):
            raise self._databases.storage_failed(database.place.name, error) from error
        raise Refused(BAD_REQUEST, str(error)) from error


def _must_write(session: TokenSession) -> None:
    if session.read_only:
        raise Refused(FORBIDDEN, "this token is read-only")


def _answer(database: OpenDatabase, ranges: Sequence[ReadRange]) -> bytes:
    return read_answer(database.store.rows(ranges))
