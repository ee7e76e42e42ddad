"""The server as an RSGI application: which request goes where, who may, and what it is answered.

One event loop does it all. Reads of a few entries take microseconds and are done at once; what may wait for a disk is
done in threads. https://github.com/emmett-framework/granian describes RSGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from provisioner.clock import now_ms
from provisioner.connect import convert, queueing
from provisioner.connect.access import Access, Opened
from provisioner.connect.attempts import Attempts
from provisioner.connect.databases import Database, Databases
from provisioner.connect.metadata import exchanged
from provisioner.connect.metrics import Metrics
from provisioner.connect.quickack import QuickAck
from provisioner.connect.refusal import (
    BAD_REQUEST,
    CONFLICT,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TIMEOUT,
    TOO_LARGE,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    Refused,
)
from provisioner.connect.watching import Frame, Subscribe, Watched, stream
from provisioner.kv.errors import Busy, Closed, KvError, StoreFailed
from provisioner.kv.model import ChecksFailed, Committed

Headers = list[tuple[str, str]]
Operation = Callable[[Any, Any, Any, "Session"], Awaitable[int]]

PREFIX: Final = "/v2/databases/"
_ID_END: Final = len(PREFIX) + 36
_PROTOBUF: Headers = [("content-type", "application/x-protobuf")]
_STREAM: Headers = [("content-type", "application/octet-stream")]
_TEXT: Headers = [("content-type", "text/plain; charset=utf-8")]
_JSON: Headers = [("content-type", "application/json")]
_FEW: Final = 100  # so many entries are read at once, more in a thread
_SESSIONS: Final = 50_000
_BODY_SECONDS: Final = 30
_VERSIONS: Final = ("2", "3", None)

_log = logging.getLogger("provisioner.connect")


class Session:
    """What a data-path token opens, looked up once. A registry that changes makes it to be looked up again."""

    __slots__ = ("database_id", "epoch", "expires_at", "principal", "read_only")

    def __init__(self, opened: Opened, epoch: int) -> None:
        self.database_id = opened.database_id
        self.read_only = opened.read_only
        self.expires_at = opened.expires_at
        self.principal = opened.principal
        self.epoch = epoch


class Server:
    """`log` is called with a level, a message and fields. `public_url` is what clients reach, where that is not said by
    their requests. `log_all` logs each request, not only refused ones."""

    def __init__(
        self,
        access: Access,
        databases: Databases,
        metrics: Metrics,
        log: Callable[..., None],
        *,
        public_url: str | None = None,
        log_all: bool = False,
    ) -> None:
        self.draining = False
        self.in_flight = 0
        self.watches = 0
        self.metrics = metrics
        self._access = access
        self._databases = databases
        self._log = log
        self._public_url = public_url
        self._log_all = log_all
        self._attempts = Attempts()
        self._quick_ack = QuickAck()
        self._sessions: dict[str, Session] = {}
        self._epoch = 0
        self._now = now_ms()
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
            if self.draining:
                raise Refused(UNAVAILABLE, "the server is shutting down")
            operation = self._operations.get(name)
            if operation is not None:
                if scope.method != "POST":
                    raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
                session = self._session(scope, path[len(PREFIX) : _ID_END])
                principal = session.principal
                status = await operation(scope, protocol, scope.headers, session)
            elif name == "connect":
                status, principal = await self._connect(scope, protocol, path[len(PREFIX) : _ID_END])
            else:
                name = name if name in _PAGES else "other"
                status = self._page(scope, protocol, name)
        except Refused as refused:
            status = refused.status
            headers = [*_TEXT, ("retry-after", "1")] if status in (TOO_MANY, UNAVAILABLE) else _TEXT
            protocol.response_str(status, headers, refused.text)
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
        if self._log_all or status >= BAD_REQUEST:
            self._log_request(scope, name, status, perf_counter() - started, principal)

    # the data path

    async def _snapshot_read(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        ranges = convert.ranges_of(await self._body(scope, protocol, headers, convert.READ_BYTES))
        for last in (False, True):
            database = await self._database(session)
            try:
                if sum(wanted.limit for wanted in ranges) <= _FEW:
                    entries = database.store.read(ranges)
                else:
                    entries = await self._databases.call(database, database.store.read, ranges)
            except KvError as error:
                self._may_be_tried_again(database, error, last)
            else:
                break
        protocol.response_bytes(200, _PROTOBUF, convert.read_answer(entries))
        return 200

    async def _atomic_write(self, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        self._must_write(session)
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
        watched = Watched(database, keys)
        return await self._stream(protocol, headers, database, watched.subscribe, watched.frame)

    async def _queue(self, handler: queueing.Handler, scope: Any, protocol: Any, headers: Any, session: Session) -> int:
        self._must_write(session)
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
        self._must_write(session)
        await self._body(scope, protocol, headers, queueing.REQUEST_BYTES)
        database = await self._database(session)
        return await self._stream(protocol, headers, database, queueing.subscribe, queueing.news)

    async def _stream(self, protocol: Any, headers: Any, database: Database, subscribe: Subscribe, frame: Frame) -> int:
        bearer = headers.get("authorization")
        gone = asyncio.ensure_future(protocol.client_disconnect())
        self.in_flight -= 1
        self.watches += 1
        try:
            await stream(
                database,
                subscribe,
                frame,
                lambda: protocol.response_stream(200, _STREAM),
                gone,
                lambda: self._is_over(bearer),
            )
        finally:
            self.watches -= 1
            self.in_flight += 1
        return 200

    def _must_write(self, session: Session) -> None:
        if session.read_only:
            raise Refused(FORBIDDEN, "this token may only read")

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
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._bodies[task] = started = perf_counter()
        try:
            if length is None or not length.isdigit():
                return await _pieces(protocol, most)
            size = int(length)
            if size > most:
                raise Refused(TOO_LARGE, f"a body has at most {most} bytes here, not {size}")
            peer = scope.client
            self._quick_ack.before(peer, size)
            body: bytes = await protocol()
            self._quick_ack.after(peer, perf_counter() - started)
        finally:
            del self._bodies[task]
        return body

    # who may

    def _session(self, scope: Any, database_id: str) -> Session:
        headers = scope.headers
        authorization = headers.get("authorization")
        session = self._sessions.get(authorization)
        if session is None or session.epoch != self._epoch or session.expires_at <= self._now:
            session = self._admit(scope, authorization)
        if session.database_id != database_id:
            raise self._denied(scope)
        named = headers.get("x-denokv-database-id") or headers.get("x-transaction-domain-id")
        if named != database_id:
            raise Refused(BAD_REQUEST, "the header x-denokv-database-id names another database than the path")
        if headers.get("x-denokv-version") not in _VERSIONS:
            raise Refused(BAD_REQUEST, "the header x-denokv-version is 2 or 3")
        return session

    def _admit(self, scope: Any, authorization: str | None) -> Session:
        opened = self._access.admit(_bearer(authorization), now_ms())
        if opened is None or authorization is None:
            self._sessions.pop(authorization or "", None)
            raise self._denied(scope)
        if len(self._sessions) >= _SESSIONS:
            self._sessions.clear()
        session = self._sessions[authorization] = Session(opened, self._epoch)
        return session

    def _denied(self, scope: Any) -> Refused:
        """The same whether it is the token or the database that there is not."""
        self.metrics.refused_attempts += 1
        if self._attempts.failed(_address(scope.client), perf_counter()):
            return Refused(TOO_MANY, "too many attempts with tokens that open nothing here")
        return Refused(UNAUTHORIZED, "this token does not open this database")

    def _is_over(self, authorization: str) -> bool:
        """May a stream that began with this token not go on?"""
        if self.draining:
            return True
        session = self._sessions.get(authorization)
        if session is None or session.epoch != self._epoch or session.expires_at <= self._now:
            opened = self._access.admit(_bearer(authorization), now_ms())
            if opened is None:
                return True
            self._sessions[authorization] = Session(opened, self._epoch)
        return False

    async def _connect(self, scope: Any, protocol: Any, database_id: str) -> tuple[int, str]:
        """The metadata exchange."""
        if scope.method != "POST":
            raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
        opened = self._access.exchange(_bearer(scope.headers.get("authorization")), database_id, now_ms())
        if opened is None:
            raise self._denied(scope)
        body = await self._body(scope, protocol, scope.headers, convert.READ_BYTES)
        if (refused := self._databases.refusal(database_id)) is not None:
            raise refused
        token, expires_at = self._access.sign(opened, now_ms())
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
            protocol.response_str(200, _TEXT, self.metrics.text(self._gauges()))
        else:
            protocol.response_str(200, _TEXT, "ok\n")
        return 200

    def _may_see_metrics(self, scope: Any) -> None:
        """This machine without more, others with a token that opens everything."""
        near = _address(scope.client) in ("127.0.0.1", "::1") and "x-forwarded-for" not in scope.headers
        if not near and not self._access.administers(_bearer(scope.headers.get("authorization")), now_ms()):
            raise self._denied(scope)

    def _gauges(self) -> dict[str, tuple[str, float]]:
        return {
            "open_databases": ("Databases that are open.", len(self._databases.opened)),
            "watches": ("Watch streams.", self.watches),
            "requests_in_flight": ("Requests that are being answered.", self.in_flight),
            "sessions": ("Data-path tokens that were seen.", len(self._sessions)),
        }

    # time

    def each_second(self) -> None:
        """What is done every second: the registry is asked whether anything has changed."""
        self._now = now_ms()
        if self._access.changed():
            self._epoch += 1
            self._databases.look_again()
            self.stir()
        self._databases.each_second()
        late = perf_counter() - _BODY_SECONDS
        for task in [task for task, since in self._bodies.items() if since < late]:
            task.cancel()

    def stir(self) -> None:
        """Watches look whether they may go on."""
        for database in list(self._databases.opened.values()):
            for look in list(database.watchers):
                look()

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


_PAGES: Final = ("/healthz", "/readyz", "/metrics")


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


def _bearer(authorization: str | None) -> str:
    """The token in ``Bearer …``; empty where there is none."""
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _address(client: str) -> str:
    """Without the port."""
    return client.rpartition(":")[0].strip("[]")
