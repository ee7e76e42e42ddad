"""The streams that are open, by the token that each began with: they end when it no longer opens their database."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from provisioner.connect.protocol.http_errors import UNAVAILABLE, Refused
from provisioner.connect.server.auth import Authenticator
from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.watch_stream import Frame, Subscribe, WatchStream
from provisioner.core.errors import ProvisionerError
from provisioner.kv.errors import Closed, KvError

_HEADERS: Final = [("content-type", "application/octet-stream")]


class Streams:
    def __init__(self, databases: OpenDatabases, authenticator: Authenticator) -> None:
        self.count = 0
        self._databases = databases
        self._authenticator = authenticator
        self._open: dict[str, set[WatchStream]] = {}
        self._draining = False

    async def serve(
        self, protocol: Any, bearer: str, database: OpenDatabase, subscribe: Subscribe, frame: Frame
    ) -> None:
        """Serve one to its end. Raises Refused where it cannot begin, ProtocolClosed where the client leaves."""
        began = WatchStream(database)
        of_token = self._open.setdefault(bearer, set())
        of_token.add(began)
        self.count += 1
        if self._draining:
            began.end()
        try:
            await self._run(began, protocol, database, subscribe, frame)
        except KvError as error:
            refused = self._databases.storage_failed(database.place.name, error)
            if not began.streams:
                raise refused from error
        finally:
            self.count -= 1
            of_token.discard(began)
            if not of_token:
                self._open.pop(bearer, None)
        if not began.streams:
            raise database.ended or Refused(UNAVAILABLE, "the stream ended before it began")

    async def _run(
        self, began: WatchStream, protocol: Any, database: OpenDatabase, subscribe: Subscribe, frame: Frame
    ) -> None:
        try:
            subscription = await self._databases.call(database, subscribe, database.store, began.waker())
        except Closed:  # under the request
            return
        # It is granian's own and unknown to the garbage collector: kept in what its callback holds, neither would be freed.
        gone = asyncio.ensure_future(protocol.client_disconnect())
        gone.add_done_callback(lambda _: began.end())
        try:
            await began.run(frame, lambda: protocol.response_stream(200, _HEADERS))
        finally:
            gone.cancel()
            subscription.close()

    def each_second(self) -> None:
        """End those whose token was revoked, has expired, or can no longer be checked."""
        for bearer, of_token in list(self._open.items()):
            try:
                goes_on = self._authenticator.still_opens(bearer)
            except ProvisionerError:  # what asked before says so
                goes_on = False
            if not goes_on:
                _end(of_token)

    def drain(self) -> None:
        """All end, also ones that are about to begin, so that their clients go elsewhere or come again."""
        self._draining = True
        for of_token in list(self._open.values()):
            _end(of_token)


def _end(of_token: set[WatchStream]) -> None:
    for began in list(of_token):
        began.end()
