"""The server as an RSGI application: the routes of requests, and their authorization. `data_path` has the answers.

One event loop does it all. Reads of a few entries take microseconds and are done at once; what may wait for a disk is
done in threads. https://github.com/emmett-framework/granian describes RSGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from provisioner.connect.protocol.http_errors import (
    BAD_REQUEST,
    FAILED,
    LEFT,
    METHOD_NOT_ALLOWED,
    TIMEOUT,
    TOO_MANY,
    UNAVAILABLE,
    Refused,
)
from provisioner.connect.server import decode, health
from provisioner.connect.server.auth import Authenticator
from provisioner.connect.server.connections import Connections
from provisioner.connect.server.data_path import DataPath
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.health import HealthPages, Readiness
from provisioner.connect.server.metadata import exchanged
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.mounted_app import MountedApp
from provisioner.connect.server.request_body import LATE, RequestBodies, ends_connection
from provisioner.connect.server.streams import Streams
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.engines.protocol.location import has_several

Headers = list[tuple[str, str]]

PREFIX: Final = "/v2/databases/"
_OURS: Final = "/v2/"
_ID_END: Final = len(PREFIX) + 36
_TEXT: Headers = [("content-type", "text/plain; charset=utf-8")]
_JSON: Headers = [("content-type", "application/json")]

_log = logging.getLogger("provisioner.connect")


class ConnectServer:
    """`log` is called with a level, a message and fields. `told` returns whether apps know of a server of this home.
    `public_url` is what clients reach, where that is not said by their requests. `log_all` logs each request, not only
    refused ones. `site` answers what is not the server's own."""

    def __init__(
        self,
        authenticator: Authenticator,
        databases: OpenDatabases,
        metrics: Metrics,
        log: Callable[..., None],
        connections: Connections,
        told: Callable[[], bool],
        *,
        public_url: str | None = None,
        log_all: bool = False,
        site: MountedApp | None = None,
    ) -> None:
        self.draining = False
        self._looked = True  # at the databases, since the registry has changed
        self.in_flight = 0
        self.metrics = metrics
        self._authenticator = authenticator
        self._databases = databases
        self._log = log
        self._connections = connections
        self._public_url = public_url
        self._log_all = log_all
        self._site = site
        self._bodies = RequestBodies()
        self._streams = Streams(databases, authenticator)
        self.readiness = Readiness(told)
        self._pages = HealthPages(authenticator, metrics, self._gauges, self.readiness)
        self._data_path = DataPath(self, databases, self._bodies, self._streams)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        started = perf_counter()
        self.in_flight += 1
        path = scope.path
        client = scope.client
        self._connections.asked(client)
        name = path[_ID_END + 1 :] if path.startswith(PREFIX) else path
        principal = ""
        try:
            if self.draining and name != health.HEALTH:
                raise Refused(UNAVAILABLE, "the server is shutting down")
            operation = self._data_path.operations.get(name)
            if operation is not None:
                if scope.method != "POST":
                    raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
                headers = scope.headers
                session = self._authenticator.session(scope, headers, path[len(PREFIX) : _ID_END])
                principal = session.principal
                self._connections.answering[protocol] = client
                status = await operation(scope, protocol, headers, session)
            elif name == "connect":
                status, principal = await self._connect(scope, protocol, path[len(PREFIX) : _ID_END])
            elif self._site is not None and name not in health.NAMES and not path.startswith(_OURS):
                name = "dashboard"
                self.in_flight -= 1  # it counts its own requests, and its streams do not delay the end
                try:
                    status = await self._site(scope, protocol)
                finally:
                    self.in_flight += 1
            else:
                name = name if name in health.NAMES else "other"
                status = self._pages.answer(scope, protocol, name)
        except Refused as refused:
            status = refused.status
            protocol.response_str(status, _refusal_headers(scope, status), refused.text)
        except ProvisionerError as error:  # the registry or the key cannot be asked; nothing was done yet
            status = UNAVAILABLE
            self._log("error", str(error))
            protocol.response_str(status, _refusal_headers(scope, status), "the server cannot tell who may do this")
        except ProtocolClosed:
            status = LEFT
        except asyncio.CancelledError:
            status = TIMEOUT
            protocol.response_str(status, _TEXT, LATE)
        except Exception:
            _log.exception("a request failed: %s", name)
            status = FAILED  # a 5xx would make clients repeat it indefinitely
            protocol.response_str(status, _TEXT, "the server failed on this request; its log says why")
        finally:
            self.in_flight -= 1
            self._connections.answering.pop(protocol, None)
        self.metrics.answered(name, status, perf_counter() - started)
        if self._log_all or (status >= BAD_REQUEST and status != LEFT):
            self._log_request(scope, name, status, perf_counter() - started, principal)

    async def _connect(self, scope: Any, protocol: Any, database_id: DatabaseId) -> tuple[int, str]:
        """The metadata exchange."""
        if scope.method != "POST":
            raise Refused(METHOD_NOT_ALLOWED, "this takes a POST")
        opened = self._authenticator.exchange(scope, database_id)
        body = await self._bodies.read(scope, protocol, scope.headers, decode.READ_BYTES, database_id)
        place = self._databases.usable(database_id)
        token, expires_at = self._authenticator.sign(opened)
        used = f"{scope.scheme}://{scope.headers.get('host') or scope.authority}"
        answer = exchanged(
            body, database_id, self._public_url, used, token, expires_at, lags=has_several(place.location)
        )
        protocol.response_bytes(200, _JSON, answer)
        return 200, opened.principal

    def _gauges(self) -> dict[str, tuple[str, float]]:
        return {
            "open_databases": ("Databases that are open.", len(self._databases.opened)),
            "refused_attempts_total": ("Requests so far whose token opened nothing.", self._authenticator.refused),
            "watches": ("Watch streams.", self._streams.count),
            "requests_in_flight": ("Requests that are being answered.", self.in_flight),
            "sessions": ("Data-path tokens that were seen.", len(self._authenticator)),
            "connections": ("Connections.", self._connections.open),
            "ended_connections_total": (
                "Connections so far that asked for nothing, or were too many.",
                self._connections.ended,
            ),
        }

    # time

    def each_second(self) -> None:
        """The work of every second: check whether the registry has changed.

        Raises StorageFailed where it cannot be asked; then what is owed to it is done as soon as it can.
        """
        self._connections.each_second()
        self._bodies.each_second()
        self._databases.each_second()
        try:
            changed = self._authenticator.each_second()
            self._looked = not changed and self._looked
            if self._site is not None:
                self._site.each_second(changed)
            if not self._looked:
                self._databases.look_again()
                self._looked = True
        finally:
            self._streams.each_second()

    def drain(self) -> None:
        """No new work from now on."""
        self.draining = True
        self._streams.drain()
        if self._site is not None:
            self._site.drain()

    def close(self) -> None:
        """No further request will come."""
        self._bodies.close()
        if self._site is not None:
            self._site.close()

    @property
    def idle(self) -> bool:
        """Is nothing being answered?"""
        return not self.in_flight and not self._streams.count and (self._site is None or self._site.idle)

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


def _refusal_headers(scope: Any, status: int) -> Headers:
    headers = list(_TEXT)
    if status in (TOO_MANY, UNAVAILABLE):
        headers.append(("retry-after", "1"))
    if ends_connection(scope, status):
        headers.append(("connection", "close"))
    return headers
