"""A database at the other end of KV Connect: the session with it, and what is tried again.

A request that failed is tried again, after a pause that grows, until a deadline; but never one that may have been
carried out and must not be carried out twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from provisioner.connect import exchange
from provisioner.connect.exchange import Metadata, Strange
from provisioner.connect.http1 import Answer
from provisioner.connect.transport import Fields, MaybeDone, NotDone, Place, Stream, Transport
from provisioner.kv.errors import AccessDenied, Closed, OptionInvalid, StoreFailed, Uncertain
from provisioner.kv.model import Consistency

PATIENCE: Final = 30.0  # seconds until nothing is tried again
LEAST: Final = 5.0  # seconds that a server has for an answer, however late the request: lost answers are worse
OPENING: Final = 5.0  # the same when the database is opened
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
SILENCE: Final = 60.0  # seconds after which a stream that says nothing, not even that it lives, is broken
RENEWED_BEFORE: Final = 300_000  # milliseconds before a token expires
BETWEEN_RENEWALS: Final = 60.0  # seconds, whatever the clocks here and there say
PROTOBUF: Final = "application/x-protobuf"
OCTETS: Final = "application/octet-stream"
SHOWN: Final = 500  # characters of what a server says
DENIED: Final = (401, 403)
NOT_FOUND: Final = 404
TOO_MANY: Final = 429
STALE: Final = (*DENIED, TOO_MANY)  # what a token that is no longer taken is answered; too many such, with the last
UNAVAILABLE: Final = 503  # of the answers that say "later", the one that says that nothing was done


class Refusal(Exception):  # noqa: N818 - named for what happened
    """The server will not do this, however often it is asked."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class Doubt:
    """Whether a request may have been carried out without an answer; `twice`: and may be carried out once more."""

    def __init__(self, *, twice: bool) -> None:
        self._twice = twice
        self.cause: Exception | None = None

    def arise(self, cause: Exception) -> None:
        self.cause = cause
        if not self._twice:
            raise self.error() from cause

    def error(self) -> Uncertain:
        return Uncertain(
            f"it may have been written or not, for the answer was lost ({self.cause}). Read before you write it again"
        )


class Remote:
    """`url` is the connect URL; `patience` in seconds. Raises KvError where no session can be had."""

    def __init__(self, url: str, access_token: str, *, patience: float = PATIENCE) -> None:
        if not exchange.is_token(access_token):
            raise OptionInvalid(f"no access token for {url}. Pass access_token, or set DENO_KV_ACCESS_TOKEN")
        self._url = url
        self._patience = patience
        self._transport = Transport()
        try:
            self._place = self._transport.place(url)
        except ValueError as error:
            raise OptionInvalid(str(error)) from error
        self._fields = Fields({"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"})
        self._renewing = threading.Lock()
        self._closed = threading.Event()
        self._metadata = self._exchanged(min(OPENING, patience))
        self._renewed = time.monotonic()

    @property
    def version(self) -> int:
        """Of the protocol."""
        return self._metadata.version

    @property
    def closed(self) -> threading.Event:
        return self._closed

    def call(self, path: str, body: bytes, *, consistency: Consistency = "strong", doubt: Doubt | None = None) -> bytes:
        """What a data request answers. Without a `doubt` it is one that does no harm when it is carried out twice.

        Raises Refusal, StoreFailed, Closed, AccessDenied, and Uncertain where the doubt says so.
        """
        renewed = False
        for attempt in self._attempts(self._patience):
            metadata = self._current()
            place = metadata.place(consistency, attempt.number)
            try:
                answer = self._asked(place, path, body, metadata.fields, attempt.seconds)
            except NotDone as error:
                attempt.failure = error
                continue
            except MaybeDone as error:
                if doubt is not None:
                    doubt.arise(error)
                attempt.failure = error
                continue
            if answer.status == 200:
                if answer.kind != PROTOBUF:
                    raise self.strange(f"its answer is of type {answer.kind!r}", doubt)
                return answer.body
            if answer.status in STALE and not renewed:
                self._renew(metadata)
                renewed = True
            elif answer.status == TOO_MANY:
                attempt.failure = NotDone(said(answer))
            else:
                raise Refusal(answer.status, shown(answer.body))
        raise AssertionError("attempts end by raising")

    @contextmanager
    def stream(self, path: str, body: bytes) -> Iterator[Stream]:
        """An open stream. Raises NotDone, MaybeDone, Refusal, KvError; only after a refused token it is tried again."""
        metadata = self._current()
        stream = self._opened(metadata, path, body)
        if stream.status in STALE:
            stream.close()
            stream = self._opened(self._renew(metadata), path, body)
        try:
            if stream.status >= 500 or stream.status == TOO_MANY:
                raise NotDone(f"the server answered {stream.status}: {shown(stream.rest(SHOWN))}")
            if stream.status != 200:
                raise Refusal(stream.status, shown(stream.rest(SHOWN)))
            if stream.kind != OCTETS:
                raise self.strange(f"its stream is of type {stream.kind!r}")
            yield stream
        finally:
            stream.close()

    def renew(self) -> None:
        """Ask for the metadata again: an endpoint said that it does not serve this any more."""
        self._renew(self._metadata)

    def strange(self, what: str, doubt: Doubt | None = None) -> StoreFailed:
        """An answer that is not of the protocol. Raises Uncertain where it may have been to a write."""
        error = StoreFailed(f"{self._url} does not speak KV Connect: {what}")
        if doubt is not None:
            doubt.arise(error)
        return error

    def close(self) -> None:
        self._closed.set()
        self._transport.close()

    def _asked(self, place: Place, path: str, body: bytes, fields: Fields, seconds: float) -> Answer:
        answer = self._transport.post(place, path, body, fields, seconds)
        if answer.status == UNAVAILABLE:
            raise NotDone(said(answer))
        if answer.status >= 500:
            raise MaybeDone(said(answer))
        return answer

    def _opened(self, metadata: Metadata, path: str, body: bytes) -> Stream:
        return self._transport.stream(metadata.place("strong", 0), path, body, metadata.fields, SILENCE)

    def _current(self) -> Metadata:
        """The metadata, asked for anew some time before its token expires."""
        metadata = self._metadata
        if metadata.expires_at - time.time_ns() // 1_000_000 > RENEWED_BEFORE:
            return metadata
        if time.monotonic() - self._renewed < BETWEEN_RENEWALS:
            return metadata
        return self._renew(metadata)

    def _renew(self, known: Metadata) -> Metadata:
        """The metadata that comes after `known`: one thread asks, and the others wait for it."""
        with self._renewing:
            if self._metadata is known:
                self._renewed = time.monotonic()
                found = self._exchanged(self._patience)
                if found.database_id != known.database_id:
                    raise StoreFailed(f"{self._url} is another database now. Open it again")
                self._metadata = found
            return self._metadata

    def _exchanged(self, patience: float) -> Metadata:
        for attempt in self._attempts(patience):
            try:
                answer = self._asked(self._place, "", exchange.REQUEST, self._fields, attempt.seconds)
                if answer.status == TOO_MANY:
                    raise NotDone(said(answer))
            except (NotDone, MaybeDone) as error:
                attempt.failure = error
                continue
            if answer.status == 200:
                try:
                    return exchange.parse(answer.body, self._url, self._transport)
                except Strange as error:
                    raise self.strange(str(error)) from error
            if answer.status in (*DENIED, NOT_FOUND):
                raise AccessDenied(f"{self._url} is not open to this access token ({said(answer)})")
            raise StoreFailed(f"{self._url} cannot be opened: {said(answer)}")
        raise AssertionError("attempts end by raising")

    def _attempts(self, patience: float) -> Iterator[Attempt]:
        """One after the other, after those with a failure a pause; raises StoreFailed when the time is over."""
        deadline = time.monotonic() + patience
        number = 0
        while True:
            if self._closed.is_set():
                raise Closed("the database is closed")
            attempt = Attempt(number, max(LEAST, deadline - time.monotonic()))
            yield attempt
            if attempt.failure is None:
                continue
            seconds = pause(number)
            number += 1
            if time.monotonic() + seconds >= deadline:
                raise StoreFailed(f"{attempt.failure} (tried for {patience:g} seconds)") from attempt.failure
            self._closed.wait(seconds)


class Attempt:
    """`seconds` are those that the server has for it; who makes it writes down why it failed."""

    __slots__ = ("failure", "number", "seconds")

    def __init__(self, number: int, seconds: float) -> None:
        self.number = number
        self.seconds = seconds
        self.failure: Exception | None = None


def pause(number: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds after so many failures before: longer each time, and not the same for all who wait for one server."""
    return float(min(FIRST_PAUSE * 2 ** min(number, 10), longest)) * random.uniform(0.5, 1.0)  # noqa: S311


def shown(body: bytes) -> str:
    """What a server says, as one line."""
    return " ".join(body.decode("utf-8", "replace").split())[:SHOWN]


def said(answer: Answer) -> str:
    return f"the server answered {answer.status}: {shown(answer.body)}"
