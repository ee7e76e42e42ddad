"""HTTP/1.1 for the client: keep-alive connections, and whether a request that failed may have reached the server.

A connection that has idled is not used again: servers close those, and a request that crosses with the closing is a
request of which nobody knows what became.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, SSLError

from provisioner.kv.errors import StoreFailed

CONNECTING: Final = 5.0  # seconds
IDLE: Final = 4.0  # seconds after which a connection is not used again; servers wait for 5 and more
KEPT: Final = 64  # connections that are kept for the next requests, each as many as there are threads that ask at once
ONE_PACKET: Final = 16_384  # bytes of a body that travels with its head


class NotDone(Exception):  # noqa: N818 - named for what happened
    """The request was not carried out, and may be another time."""


class MaybeDone(Exception):  # noqa: N818 - named for what happened
    """The request may have been carried out: its answer was lost."""


class Answer(NamedTuple):
    """`kind` is the content type as it came."""

    status: int
    kind: str
    body: bytes


class Place(NamedTuple):
    """Where requests go: the connections of an origin, and a path without a slash at its end."""

    pool: HTTPConnectionPool
    path: str


class Transport:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str, int | None], HTTPConnectionPool] = {}

    def place(self, url: str) -> Place:
        """The place of an http or https URL. Raises ValueError for what is none."""
        parts = urlsplit(url)
        if parts.scheme not in _POOLS or not parts.hostname or parts.username is not None:
            raise ValueError(f"{url!r} is no URL of a server")
        origin = (parts.scheme, parts.hostname, parts.port)
        with self._lock:
            if (pool := self._pools.get(origin)) is None:
                pool = _POOLS[parts.scheme](parts.hostname, parts.port, maxsize=KEPT)
                self._pools[origin] = pool
        return Place(pool, parts.path.rstrip("/"))

    def post(self, place: Place, path: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """The answer, for which the server has so many seconds. Raises NotDone, MaybeDone, StoreFailed."""
        response = _sent(place, path, body, headers, seconds, whole=True)
        return Answer(response.status, response.headers.get("content-type", ""), response.data)

    def stream(self, place: Place, path: str, body: bytes, headers: Mapping[str, str], silence: float) -> Stream:
        """An answer that goes on. It may be silent for so many seconds. Raises as `post` does."""
        return Stream(_sent(place, path, body, headers, silence, whole=False))

    def close(self) -> None:
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()


class Stream:
    """An answer that is read piece by piece, until it is closed from any thread."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.kind = response.headers.get("content-type", "")

    def read(self, size: int) -> bytes:
        """So many bytes. Raises MaybeDone where it ends before, or is silent for too long."""
        try:
            data = self._response.read(size)
        except (HTTPError, OSError, ValueError, AttributeError) as error:  # the last two where it is being closed
            raise MaybeDone(str(error)) from error
        if len(data) != size:
            raise MaybeDone("the stream ended")
        return data

    def rest(self, most: int) -> bytes:
        """What comes yet, if it is not more than that."""
        try:
            return self._response.read(most)
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            raise MaybeDone(str(error)) from error

    def interrupt(self) -> None:
        """Let who reads, in another thread, find the end."""
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):  # it has ended by itself
            return

    def close(self) -> None:
        self._response.close()


class _Kept:
    """What our connections do otherwise than those of urllib3."""

    sock: Any
    _parts: list[bytes] | None = None
    _used = 0.0

    @property
    def is_connected(self) -> bool:
        return time.monotonic() - self._used < IDLE and super().is_connected  # type: ignore[misc]

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send head and body at once: in two packets, the server would be woken twice."""
        parts: list[bytes] = []
        self._parts = parts
        super().request(*arguments, **options)  # type: ignore[misc]
        self._parts = None
        head, *rest = parts
        if rest and len(rest[0]) <= ONE_PACKET:
            self.send(head + rest[0])
            rest = rest[1:]
        else:
            self.send(head)
        for data in rest:
            self.send(data)

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._parts.append(data)

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self._used = time.monotonic()
        return response


class _Connection(_Kept, HTTPConnection):
    pass


class _SecureConnection(_Kept, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final[Mapping[str, type[HTTPConnectionPool]]] = {"http": _Pool, "https": _SecurePool}


def _sent(
    place: Place, path: str, body: bytes, headers: Mapping[str, str], seconds: float, *, whole: bool
) -> urllib3.BaseHTTPResponse:
    try:
        return place.pool.urlopen(
            "POST",
            place.path + path,
            body,
            headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=min(CONNECTING, seconds), read=seconds),
            preload_content=whole,
            decode_content=False,
        )
    except SSLError as error:
        raise StoreFailed(f"{_origin(place)} cannot be trusted: {error}") from error
    except (NewConnectionError, ConnectTimeoutError, NameResolutionError) as error:
        raise NotDone(f"{_origin(place)} cannot be reached: {error}") from error
    except (HTTPError, OSError) as error:
        raise MaybeDone(f"the connection to {_origin(place)} broke: {error}") from error


def _origin(place: Place) -> str:
    return f"{place.pool.scheme}://{place.pool.host}:{place.pool.port}"
