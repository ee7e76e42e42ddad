"""A database at the other end of KV Connect: its requests, and their retries.

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

from provisioner.connect.client.metadata import Metadata
from provisioner.connect.client.session import DENIED, SHOWN, TOO_MANY, ConnectSession, asked, said, shown
from provisioner.connect.client.transport import RequestNotSent, ResponseLost, ResponseStream, Transport
from provisioner.kv.errors import Closed, StoreFailed, Uncertain
from provisioner.kv.model import Consistency
from provisioner.system.backoff import after

PATIENCE: Final = 30.0  # seconds until nothing is tried again
OPENING: Final = 5.0  # the same when the database is opened
LEAST: Final = 5.0  # seconds that a server has for an answer, however late the request: lost answers are worse
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
SILENCE: Final = 60.0  # seconds after which a stream that says nothing, not even that it lives, is broken
PROTOBUF: Final = "application/x-protobuf"
OCTETS: Final = "application/octet-stream"
STALE: Final = (*DENIED, TOO_MANY)  # what a token that is no longer taken is answered; too many such, with the last


class RequestRefused(Exception):  # noqa: N818 - named for what happened
    """The server will not do this, however often it is repeated."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class AmbiguousWrite:
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
        self.closed = threading.Event()
        self._patience = patience
        self._transport = Transport()
        self._session = ConnectSession(url, access_token, self._transport)
        for attempt in self._attempts(min(OPENING, patience)):
            try:
                self._session.open(attempt.seconds)
            except RequestNotSent as error:
                attempt.failure = error
            else:
                break

    @property
    def version(self) -> int:
        """Of the protocol."""
        return self._session.metadata.version

    def call(
        self, path: str, body: bytes, *, consistency: Consistency = "strong", doubt: AmbiguousWrite | None = None
    ) -> bytes:
        """What a data request answers. Without a `doubt` it is one that does no harm when it is carried out twice.

        Raises Refusal, StoreFailed, Closed, AccessDenied, and Uncertain where the doubt says so.
        """
        renewed = False
        for attempt in self._attempts(self._patience):
            try:
                metadata = self._session.current()
                place = metadata.place(consistency, attempt.number)
                answer = asked(self._transport, place, path, body, metadata.fields, attempt.seconds)
                if answer.status in STALE and not renewed:
                    self._session.renewed(metadata)
                    renewed = True
                    continue
            except RequestNotSent as error:
                attempt.failure = error
                continue
            except ResponseLost as error:
                if doubt is not None:
                    doubt.arise(error)
                attempt.failure = error
                continue
            if answer.status == TOO_MANY:
                attempt.failure = RequestNotSent(said(answer))
            elif answer.status != 200:
                raise RequestRefused(answer.status, shown(answer.body))
            elif answer.kind != PROTOBUF:
                raise self.strange(f"its answer is of type {answer.kind!r}", doubt)
            else:
                return answer.body
        raise AssertionError("attempts end by raising")

    @contextmanager
    def stream(self, path: str, body: bytes) -> Iterator[ResponseStream]:
        """An open stream. Raises NotDone, MaybeDone, Refusal, KvError; only after a refused token it is tried again."""
        metadata = self._session.current()
        stream = self._opened(metadata, path, body)
        if stream.status in STALE:
            stream.close()
            stream = self._opened(self._session.renewed(metadata), path, body)
        try:
            if stream.status >= 500 or stream.status == TOO_MANY:
                raise RequestNotSent(f"the server answered {stream.status}: {shown(stream.rest(SHOWN))}")
            if stream.status != 200:
                raise RequestRefused(stream.status, shown(stream.rest(SHOWN)))
            if stream.kind != OCTETS:
                raise self.strange(f"its stream is of type {stream.kind!r}")
            yield stream
        finally:
            stream.close()

    def renew(self) -> None:
        """Request the metadata again, because an endpoint no longer serves this."""
        try:
            self._session.renewed(self._session.metadata)
        except RequestNotSent as error:
            raise StoreFailed(str(error)) from error

    def strange(self, what: str, doubt: AmbiguousWrite | None = None) -> StoreFailed:
        """An answer that is not of the protocol. Raises Uncertain where it may have been to a write."""
        error = self._session.strange(what)
        if doubt is not None:
            doubt.arise(error)
        return error

    def close(self) -> None:
        self.closed.set()
        self._transport.close()

    def _opened(self, metadata: Metadata, path: str, body: bytes) -> ResponseStream:
        return self._transport.stream(metadata.place("strong", 0), path, body, metadata.fields, SILENCE)

    def _attempts(self, patience: float) -> Iterator[Attempt]:
        """One after the other, after those with a failure a pause; raises StoreFailed when the time is over."""
        deadline = time.monotonic() + patience
        number = 0
        while True:
            if self.closed.is_set():
                raise Closed("the database is closed")
            attempt = Attempt(number, max(LEAST, deadline - time.monotonic()))
            yield attempt
            if attempt.failure is None:
                continue
            seconds = pause(number)
            number += 1
            if time.monotonic() + seconds >= deadline:
                raise StoreFailed(f"{attempt.failure} (tried for {patience:g} seconds)") from attempt.failure
            self.closed.wait(seconds)


class Attempt:
    """`seconds` are those that the server has for it; who makes it writes down why it failed."""

    __slots__ = ("failure", "number", "seconds")

    def __init__(self, number: int, seconds: float) -> None:
        self.number = number
        self.seconds = seconds
        self.failure: Exception | None = None


def pause(number: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds to wait after this many failures: longer each time, and different for each client of a server."""
    return after(number, FIRST_PAUSE, longest) * random.uniform(0.5, 1.0)  # noqa: S311
