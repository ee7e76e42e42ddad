"""The server as an RSGI application: which request goes where, who may, and what it is answered.

One event loop does it all. Reads of a few entries take microseconds and are done at once; what may wait for a disk is
done in threads. https://github.com/emmett-framework/granian describes RSGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from provisioner.connect import convert, queueing
from provisioner.connect.databases import Database, Databases
from provisioner.connect.doorman import Doorman, Session, address_of
from provisioner.connect.entries import read_answer
from provisioner.connect.metadata import exchanged
from provisioner.connect.metrics import Metrics
from provisioner.connect.options import is_loopback
from provisioner.connect.quickack import LARGE, STALLED_SECONDS, QuickAck
from provisioner.connect.refusal import (
    BAD_REQUEST,
    CONFLICT,
    FORBIDDEN,
    LEFT,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TIMEOUT,
    TOO_LARGE,
    TOO_MANY,
    UNAVAILABLE,
    Refused,
)
from provisioner.connect.watching import Frame, Subscribe, Watch, Watched
from provisioner.kv.errors import Busy, Closed, KvError, StoreFailed
from provisioner.kv.model import ChecksFailed, Committed, ReadRange

Headers = list[tuple[str, str]]
Operation = Callable[[Any, Any, Any, Session], Awaitable[int]]

PREFIX: Final = "/v2/databases/"
_ID_END: Final = len(PREFIX) + 36
_PROTOBUF: Headers = [("content-type", "application/x-protobuf")]
_STREAM: Headers = [("content-type", "application/octet-stream")]
_TEXT: Headers = [("content-type", "text/plain; charset=utf-8")]
_METRICS: Headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]
_JSON: Headers = [("content-type", "application/json")]
_FEW: Final = 100  # so many entries are read at once; more in a thread, unless the last such answer was light
_CROWD: Final = 4  # requests at a time, of which some will be read in the same turn of the loop
_LIGHT: Final = 512 * 1024  # bytes, which take about a millisecond
_BODY_SECONDS: Final = 30

_log = logging.getLogger("provisioner.connect")


class Server:
    """`log` is called with a level, a message and fields. `public_url` is what clients reach, where that is not said by
    their requests. `log_all` logs each request, not only refused ones."""

    def __init__(
        self,
        doorman: Doorman,
        databases: Databases,
        metrics: Metrics,
        log: Callable[..., None],
        *,
        public_url: str | None = None,
        log_all: bool = False,
    ) -> None:
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self.in_flight = 0
        self.watches = 0
        self.metrics = metrics
        self._doorman = doorman
        self._databases = databases
        self._log = log
        self._public_url = public_url
        self._log_all = log_all
        self._quick_ack = QuickAck()
        self._watches: dict[str, set[Watch]] = {}
        self._bodies: dict[asyncio.Task[Any], float] = {}
        self._operations: dict[str, Operation] = {
            "snapshot_read": self._snapshot_read,
            "atomic_write": self._atomic_write,
            "watch": self._watch,
            **{path: partial(self._queue, handler) for path, handler in queueing.HANDLERS.items()},
            queueing.STREAM: self._news,
        }

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        started = perf_counter()
        self.in_flight += 1
        path = scope.path
        name = path[_ID_END + 1 :] if path.startswith(PREFIX) else path
        principal = ""
        try:
            if self.draining and name != "/healthz":
                raise Refused(UNAVAILABLE, "the server is shutting down")
            operation = self._operations.get(name)
            if operation is not None:
                if scope.method != "POST":
                    raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
                headers = scope.headers
                session = self._doorman.session(scope, headers, path[len(PREFIX) : _ID_END])
                principal = session.principal
                status = await operation(scope, protocol, headers, session)
            elif name == "connect":
                status, principal = await self._connect(scope, protocol, path[len(PREFIX) : _ID_END])
            else:
                name = name if name in _PAGES else "other"
                status = self._page(scope, protocol, name)
        except Refused as refused:
            status = refused.status
            later = status in (TOO_MANY, UNAVAILABLE)
            protocol.response_str(status, [*_TEXT, ("retry-after", "1")] if later else _TEXT, refused.text)
        except ProtocolClosed:
            status = LEFT
        except asyncio.CancelledError:
            status = TIMEOUT
            protocol.response_str(status, _TEXT, f"the body did not come within {_BODY_SECONDS} seconds")
        except Exception:
            _log.exception("a request failed: %s", name)
            status = CONFLICT  # a 5xx would make clients send it again for ever
            protocol.response_str(status, _TEXT, "the server failed on this request; its log says why")
        finally:
            self.in_flight -= 1
        self.metrics.answered(name, status, perf_counter() - started)
        if self._log_all or (status >= BAD_REQUEST and status != LEFT):
            self._log_request(scope, name, status, perf_counter() - started, principal)

    # the data path

    async def _snapshot_read(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        ranges, total = convert.ranges_of(await self._body(scope, protocol, headers, convert.READ_BYTES))
        for last in (False, True):
            database = self._databases.opened.get(session.database_id) or await self._databases.get(session.database_id)
            database.used = self._databases.tick
            try:
                if total <= _FEW or database.light:
                    answer = read_answer(database.rows(ranges, self._loop, self.in_flight > _CROWD))
                else:
                    answer = await self._databases.call(database, _answer, database, ranges)
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
        if total > _FEW:
            database.light = len(answer) <= _LIGHT
        protocol.response_bytes(200, _PROTOBUF, answer)
        return 200

    async def _atomic_write(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        _must_write(session)
        write = convert.write_of(await self._body(scope, protocol, headers, convert.WRITE_BYTES))
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
        protocol.response_bytes(200, _PROTOBUF, convert.write_answer(outcome))
        return 200

    async def _watch(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        keys = convert.watched_keys(await self._body(scope, protocol, headers, convert.WATCH_BYTES))
        database = await self._database(session)
        watched = Watched(database.store, keys)
        return await self._stream(protocol, headers, database, watched.subscribe, watched.frame)

    async def _queue(self, handler: queueing.Handler, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        _must_write(session)
        body = await self._body(scope, protocol, headers, queueing.REQUEST_BYTES)
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

    async def _news(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        _must_write(session)
        await self._body(scope, protocol, headers, queueing.REQUEST_BYTES)
        database = await self._database(session)
        return await self._stream(protocol, headers, database, queueing.subscribe, queueing.news)

    async def _stream(self, protocol: Any, headers: Any, database: Database, subscribe: Subscribe, frame: Frame) -> int:
        gone = asyncio.ensure_future(protocol.client_disconnect())
        began = Watch(database, gone)
        self._watches.setdefault(headers.get("authorization"), set()).add(began)
        self.in_flight -= 1
        self.watches += 1
        try:
            await began.run(subscribe, frame, lambda: protocol.response_stream(200, _STREAM))
        except KvError as error:
            if not began.streams:
                raise self._databases.storage_failed(database.place.name, error) from error
            self._databases.storage_failed(database.place.name, error)
        finally:
            self.watches -= 1
            self.in_flight += 1
            self._forget(headers.get("authorization"), began)
        if not began.streams:
            raise database.ended or Refused(UNAVAILABLE, "the stream ended before it began")
        return 200

    def _forget(self, authorization: str, began: Watch) -> None:
        of_token = self._watches[authorization]
        of_token.discard(began)
        if not of_token:
            del self._watches[authorization]

    async def _database(self, session: Session) -> Database:
        database = self._databases.opened.get(session.database_id)
        if database is None:
            database = await self._databases.get(session.database_id)
        database.used = self._databases.tick
        return database

    def _may_be_tried_again(self, database: Database, error: KvError, last: bool) -> None:
        """A database that was closed under a request is opened again, once. Raises Refused for all else."""
        if isinstance(error, Closed) and not last:
            return
        if isinstance(error, (StoreFailed, Busy, Closed)):
            raise self._databases.storage_failed(database.place.name, error) from error
        raise Refused(BAD_REQUEST, str(error)) from error

    async def _body(self, scope: Any, protocol: Any, headers: Any, most: int) -> bytes:
        """All of the body, which has `most` bytes and comes within a time, or else Refused."""
        length = headers.get("content-length")
        task: Any = asyncio.current_task()
        self._bodies[task] = started = perf_counter()
        try:
            if length is None or not length.isdigit():
                return await _pieces(protocol, most)
            size = int(length)
            if size > most:
                raise Refused(TOO_LARGE, f"a body has at most {most} bytes here, not {size}")
            quick_ack = self._quick_ack
            if size > LARGE or quick_ack.stalling:
                quick_ack.before(scope.client, size)
            body: bytes = await protocol()
            if perf_counter() - started > STALLED_SECONDS:
                quick_ack.stalled(scope.client)
        finally:
            del self._bodies[task]
        return body

    async def _connect(self, scope: Any, protocol: Any, database_id: str) -> tuple[int, str]:
        """The metadata exchange."""
        if scope.method != "POST":
            raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
        opened = self._doorman.exchange(scope, database_id)
        body = await self._body(scope, protocol, scope.headers, convert.READ_BYTES)
        if (refused := self._databases.refusal(database_id)) is not None:
            raise refused
        token, expires_at = self._doorman.sign(opened)
        base = self._public_url or f"{scope.scheme}://{scope.headers.get('host') or scope.authority}"
        answer = exchanged(body, database_id, base if self._public_url else None, base, token, expires_at)
        protocol.response_bytes(200, _JSON, answer)
        return 200, opened.principal

    # what is not a database

    def _page(self, scope: Any, protocol: Any, name: str) -> int:
        if name not in _PAGES:
            raise Refused(NOT_FOUND, "there is nothing here")
        if scope.method not in ("GET", "HEAD"):
            raise Refused(METHOD_NOT_ALLOWED, "this takes a GET")
        if name == "/metrics":
            self._may_see_metrics(scope)
            protocol.response_str(200, _METRICS, self.metrics.text(self._gauges()))
        else:
            protocol.response_str(200, _TEXT, "ok\n")
        return 200

    def _may_see_metrics(self, scope: Any) -> None:
        """This machine without more, others with a token that opens everything."""
        near = is_loopback(address_of(scope.client)) and "x-forwarded-for" not in scope.headers
        if not near:
            self._doorman.must_administer(scope)

    def _gauges(self) -> dict[str, tuple[str, float]]:
        return {
            "open_databases": ("Databases that are open.", len(self._databases.opened)),
            "refused_attempts_total": ("Requests so far whose token opened nothing.", self._doorman.refused),
            "watches": ("Watch streams.", self.watches),
            "requests_in_flight": ("Requests that are being answered.", self.in_flight),
            "sessions": ("Data-path tokens that were seen.", len(self._doorman)),
        }

    # time

    def each_second(self) -> None:
        """What is done every second: the registry is asked whether anything has changed."""
        if self._doorman.each_second():
            self._databases.look_again()
        self._databases.each_second()
        for authorization in list(self._watches):
            if not self._doorman.still_opens(authorization):
                self._end_watches(authorization)
        late = perf_counter() - _BODY_SECONDS
        for task in [task for task, since in self._bodies.items() if since < late]:
            task.cancel()

    def drain(self) -> None:
        """No new work from now on; watches end, so that their clients go elsewhere or come again."""
        self.draining = True
        for authorization in list(self._watches):
            self._end_watches(authorization)

    def _end_watches(self, authorization: str) -> None:
        for began in list(self._watches.get(authorization, ())):
            began.end()

    def _log_request(self, scope: Any, name: str, status: int, seconds: float, principal: str) -> None:
        level = "info" if status < BAD_REQUEST else "warning"
        database = scope.path[len(PREFIX) : _ID_END] if scope.path.startswith(PREFIX) else None
        self._log(
            level,
            "request",
            operation=name,
            status=status,
            ms=round(seconds * 1000, 2),
            database=database,
            client=scope.client,
            token=principal or None,
        )


def _must_write(session: Session) -> None:
    if session.read_only:
        raise Refused(FORBIDDEN, "this token may only read")


_PAGES: Final = ("/healthz", "/readyz", "/metrics")


def _answer(database: Database, ranges: Sequence[ReadRange]) -> bytes:
    return read_answer(database.store.rows(ranges))


async def _pieces(protocol: Any, most: int) -> bytes:
    """A body whose length nobody said."""
    pieces = []
    size = 0
    async for piece in protocol:
        size += len(piece)
        if size > most:
            raise Refused(TOO_LARGE, f"a body has at most {most} bytes here")
        pieces.append(piece)
    return b"".join(pieces)
