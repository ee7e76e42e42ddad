"""A session with a database on a server: its metadata, requested at the start, and again before its token expires."""

from __future__ import annotations

import threading
import time
from typing import Final

from provisioner.connect.client import metadata as exchange
from provisioner.connect.client.http1 import Answer
from provisioner.connect.client.metadata import Metadata, ProtocolViolation
from provisioner.connect.client.transport import Fields, RequestNotSent, RequestTarget, ResponseLost, Transport
from provisioner.kv.errors import AccessDenied, OptionInvalid, StoreFailed

RENEWED_BEFORE: Final = 300_000  # milliseconds before a token expires
BETWEEN_RENEWALS: Final = 60.0  # seconds, whatever the clocks here and there say
RENEWING: Final = 5.0  # seconds that the server has for it, since other threads wait too
SHOWN: Final = 500  # characters of what a server says
DENIED: Final = (401, 403)
NOT_FOUND: Final = 404
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503  # of the answers that say "later", the one that says that nothing was done


class ConnectSession:
    """`url` is the connect URL. It has no metadata until it was opened."""

    metadata: Metadata

    def __init__(self, url: str, access_token: str, transport: Transport) -> None:
        if not exchange.is_token(access_token):
            raise OptionInvalid(f"no access token for {url}. Pass access_token, or set DENO_KV_ACCESS_TOKEN")
        self.url = url
        self._transport = transport
        try:
            self._place = transport.place(url)
        except ValueError as error:
            raise OptionInvalid(str(error)) from error
        self._fields = Fields({"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"})
        self._renewing = threading.Lock()
        self._renewed = 0.0

    def open(self, seconds: float) -> None:
        """Try it once. Raises NotDone where it may be tried again, and KvError."""
        self.metadata = self._exchanged(seconds)
        self._renewed = time.monotonic()

    def current(self) -> Metadata:
        """The metadata, renewed some time before its token expires. After a failure there is time to retry."""
        metadata = self.metadata
        if metadata.expires_at - time.time_ns() // 1_000_000 > RENEWED_BEFORE:
            return metadata
        if time.monotonic() - self._renewed < BETWEEN_RENEWALS:
            return metadata
        try:
            return self.renewed(metadata)
        except RequestNotSent:
            return metadata

    def renewed(self, known: Metadata) -> Metadata:
        """The metadata that comes after `known`: one thread asks, once, and the others wait for it.

        Raises NotDone where it may be tried again, and KvError.
        """
        with self._renewing:
            if self.metadata is known:
                self._renewed = time.monotonic()
                found = self._exchanged(RENEWING)
                if found.database_id != known.database_id:
                    raise StoreFailed(f"{self.url} is another database now. Open it again")
                self.metadata = found
            return self.metadata

    def strange(self, what: str) -> StoreFailed:
        return StoreFailed(f"{self.url} does not speak KV Connect: {what}")

    def _exchanged(self, seconds: float) -> Metadata:
        try:
            answer = asked(self._transport, self._place, "", exchange.REQUEST, self._fields, seconds)
        except ResponseLost as error:
            raise RequestNotSent(str(error)) from error
        if answer.status == TOO_MANY:
            raise RequestNotSent(said(answer))
        if answer.status in (*DENIED, NOT_FOUND):
            raise AccessDenied(f"{self.url} is not open to this access token ({said(answer)})")
        if answer.status != 200:
            raise StoreFailed(f"{self.url} cannot be opened: {said(answer)}")
        try:
            return exchange.parse(answer.body, self.url, self._transport)
        except ProtocolViolation as error:
            raise self.strange(str(error)) from error


def asked(transport: Transport, place: RequestTarget, path: str, body: bytes, fields: Fields, seconds: float) -> Answer:
    """An answer that is not a server's failure. Raises NotDone, MaybeDone, StoreFailed."""
    answer = transport.post(place, path, body, fields, seconds)
    if answer.status == UNAVAILABLE:
        raise RequestNotSent(said(answer))
    if answer.status >= 500:
        raise ResponseLost(said(answer))
    return answer


def shown(body: bytes) -> str:
    """What a server says, as one line."""
    return " ".join(body.decode("utf-8", "replace").split())[:SHOWN]


def said(answer: Answer) -> str:
    return f"the server answered {answer.status}: {shown(answer.body)}"
