"""The streams that are open, by the token that each began with: they end when it no longer opens their database."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from provisioner.connect.databases import Database, Databases
from provisioner.connect.doorman import Doorman
from provisioner.connect.refusal import UNAVAILABLE, Refused
from provisioner.connect.watching import Frame, Subscribe, Watch
from provisioner.kv.errors import KvError

_HEADERS: Final = [("content-type", "application/octet-stream")]


class Streams:
    def __init__(self, databases: Databases, doorman: Doorman) -> None:
        self.count = 0
        self._databases = databases
        self._doorman = doorman
        self._open: dict[str, set[Watch]] = {}
        self._draining = False

    async def serve(
        self, protocol: Any, authorization: str, database: Database, subscribe: Subscribe, frame: Frame
    ) -> None:
        """Serve one to its end. Raises Refused where it cannot begin, ProtocolClosed where the client leaves."""
        gone = asyncio.ensure_future(protocol.client_disconnect())
        began = Watch(database)
        of_token = self._open.setdefault(authorization, set())
        of_token.add(began)
        self.count += 1
        if self._draining:
            began.end()
        try:
            await began.run(subscribe, frame, lambda: protocol.response_stream(200, _HEADERS), gone)
        except KvError as error:
            refused = self._databases.storage_failed(database.place.name, error)
            if not began.streams:
                raise refused from error
        finally:
            self.count -= 1
            of_token.discard(began)
            if not of_token:
                self._open.pop(authorization, None)
        if not began.streams:
            raise database.ended or Refused(UNAVAILABLE, "the stream ended before it began")

    def each_second(self) -> None:
        """End those whose token was revoked, or is over."""
        for authorization, of_token in list(self._open.items()):
            if not self._doorman.still_opens(authorization):
                _end(of_token)

    def drain(self) -> None:
        """All end, also ones that are about to begin, so that their clients go elsewhere or come again."""
        self._draining = True
        for of_token in list(self._open.values()):
            _end(of_token)


def _end(of_token: set[Watch]) -> None:
    for began in list(of_token):
        began.end()
