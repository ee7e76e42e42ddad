"""Connections to servers, kept for the next requests, and whether a request that failed may have been carried out.

A connection that has idled is not used again: servers close those, and the outcome of a request that crosses with the
closing is unknown.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from provisioner.connect.client import http1
from provisioner.connect.client.http1 import Answer, Unanswered, Unsent
from provisioner.kv.errors import StoreFailed

CONNECTING: Final = 5.0  # seconds
IDLE: Final = 4.0  # seconds after which a connection is not used again; servers wait for 5 and more
KEPT: Final = 64  # connections of an origin that are kept
PORTS: Final = {"http": 80, "https": 443}


class RequestNotSent(Exception):  # noqa: N818 - named for what happened
    """The request was not carried out, and may be another time."""


class ResponseLost(Exception):  # noqa: N818 - named for what happened
    """The request may have been carried out: its answer was lost."""


class Fields:
    """The fields of a head that many requests have."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self.named = named
        self.written = "".join(f"{name}: {value}\r\n" for name, value in named.items()).encode("latin-1")


class RequestTarget(NamedTuple):
    """Where requests go: a path of an origin, without a slash at its end."""

    origin: Origin
    path: str


class Origin:
    """A server, and its idle connections: the one that was used last is used next."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        self.authority = shown if port == PORTS[scheme] else f"{shown}:{port}"
        self.name = f"{scheme}://{self.authority}"
        self._host = host
        self._port = port
        self._context = ssl.create_default_context() if scheme == "https" else None
        self._idle: deque[tuple[HTTPConnection, float]] = deque(maxlen=KEPT)
        self._closed = False

    def take(self, seconds: float) -> HTTPConnection:
        """A connection on which each wait lasts at most so long. Raises NotDone, StoreFailed."""
        while self._idle:
            try:
                connection, used = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - used < IDLE and _silent(connection.sock):
                connection.sock.settimeout(seconds)
                return connection
            connection.close()
        return self._connected(seconds)

    def give(self, connection: HTTPConnection) -> None:
        """It may be used again."""
        self._idle.append((connection, time.monotonic()))
        if self._closed:
            self.close()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop()[0].close()

    def _connected(self, seconds: float) -> HTTPConnection:
        if self._context is None:
            connection = HTTPConnection(self._host, self._port, timeout=CONNECTING)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=CONNECTING, context=self._context)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise StoreFailed(f"{self.name} cannot be trusted: {error}") from error
        except OSError as error:
            raise RequestNotSent(f"{self.name} cannot be reached: {error}") from error
        connection.sock.settimeout(seconds)
        return connection


class Transport:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origins: dict[tuple[str, str, int], Origin] = {}

    def place(self, url: str) -> RequestTarget:
        """The target of an http or https URL. Raises ValueError for any other text."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.username is not None or not url.isascii():
            raise ValueError(f"{url!r} is not a URL of a server")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has more than a path")
        if any(character <= " " or character == "\x7f" for character in url):
            raise ValueError(f"{url!r} has characters that no URL has")
        key = parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]
        with self._lock:
            if (origin := self._origins.get(key)) is None:
                origin = self._origins[key] = Origin(*key)
        return RequestTarget(origin, parts.path.rstrip("/"))

    def post(self, place: RequestTarget, path: str, body: bytes, fields: Fields, seconds: float) -> Answer:
        """The answer, which the server may let be waited for so long. Raises NotDone, MaybeDone, StoreFailed."""
        origin = place.origin
        head = f"POST {place.path}{path} HTTP/1.1\r\nHost: {origin.authority}\r\n".encode() + fields.written
        connection = origin.take(seconds)
        try:
            answer = http1.asked(connection.sock, head, body)
        except Unsent as error:
            connection.close()
            raise RequestNotSent(f"the connection to {origin.name} broke: {error}") from error
        except Unanswered as error:
            connection.close()
            raise ResponseLost(f"the connection to {origin.name} broke: {error}") from error
        except BaseException:  # interrupted: the answer to this must not be taken for that to another
            connection.close()
            raise
        if answer.closing:
            connection.close()
        else:
            origin.give(connection)
        return answer

    def stream(self, place: RequestTarget, path: str, body: bytes, fields: Fields, silence: float) -> ResponseStream:
        """An answer without an end. It may be silent for `silence` seconds. Raises as `post` does."""
        connection = place.origin.take(silence)
        try:
            return ResponseStream(connection, place.path + path, body, fields)
        except (HTTPException, OSError) as error:
            connection.close()
            raise ResponseLost(f"the connection to {place.origin.name} broke: {error}") from error

    def close(self) -> None:
        with self._lock:
            for origin in self._origins.values():
                origin.close()


class ResponseStream:
    """An answer that is read piece by piece, until it is closed, or interrupted from another thread."""

    def __init__(self, connection: HTTPConnection, path: str, body: bytes, fields: Fields) -> None:
        connection.request("POST", path, body, dict(fields.named))
        self._connection = connection
        self._socket = connection.sock
        self._response = connection.getresponse()
        self.status = self._response.status
        self.kind = self._response.headers.get("content-type", "")

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises MaybeDone if it ends before, or is silent for too long."""
        data = self.rest(size)
        if len(data) != size:
            raise ResponseLost("the stream ended")
        return data

    def rest(self, most: int) -> bytes:
        """The next bytes, at most `most`."""
        try:
            return self._response.read(most)
        except (HTTPException, OSError, ValueError) as error:
            raise ResponseLost(f"the stream broke: {error}") from error

    def interrupt(self) -> None:
        """Let who reads, in another thread, find the end."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not that of TLS, which is not for two threads
        except OSError:  # it has already ended
            return

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def _silent(sock: socket.socket) -> bool:
    """Whether the server neither closed the connection nor said something unasked."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
