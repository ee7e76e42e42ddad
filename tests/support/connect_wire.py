"""KV Connect spoken by hand: what no well-behaved client would send, and what it is answered."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import urllib3

from provisioner.connect.protocol import datapath_pb2 as pb

OPERATIONS = ("snapshot_read", "atomic_write", "watch")
QUEUE = ("queue/claim", "queue/renew", "queue/finish", "queue/revive", "queue/news")
STREAMS = ("watch", "queue/news")
VERSIONS = b'{"supportedVersions":[1,2,3]}'


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def shown(self) -> tuple[int, str | None, bytes]:
        """All of it that could tell two answers apart."""
        return self.status, self.headers.get("content-type"), self.body


class Wire:
    """Connections to one server. Every thread may use it; nothing is tried again.

    `source` is an address of this machine, such as 127.0.0.2, to come from: the server counts what fails by address.
    """

    def __init__(self, connections: int = 4, source: str = "127.0.0.1") -> None:
        self._pool = urllib3.PoolManager(
            num_pools=4, maxsize=connections, retries=False, timeout=60, source_address=(source, 0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.clear()

    def send(
        self, url: str, body: bytes = b"", headers: Mapping[str, Any] | None = None, method: str = "POST"
    ) -> Answer:
        """One request. Raises urllib3.exceptions.HTTPError where no answer came, also not on a second connection: the
        first one may have idled until the server closed it."""
        try:
            found = self._pool.request(method, url, body=body, headers=dict(headers or {}), redirect=False)
        except urllib3.exceptions.ProtocolError:
            self._pool.clear()
            found = self._pool.request(method, url, body=body, headers=dict(headers or {}), redirect=False)
        return Answer(found.status, {name.lower(): value for name, value in found.headers.items()}, found.data)

    def first_frame(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to a request for a stream; of that only the first frame."""
        with self._stream(url, body, headers) as found:
            named = {name.lower(): value for name, value in found.headers.items()}
            if found.status != 200:
                return Answer(found.status, named, found.read())
            return Answer(found.status, named, next(frames(found)))

    @contextmanager
    def _stream(self, url: str, body: bytes, headers: Mapping[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        found = self._pool.request("POST", url, body=body, headers=dict(headers), redirect=False, preload_content=False)
        try:
            yield found
        finally:
            found.close()

    @contextmanager
    def watching(self, path: Path, *keys: bytes) -> Iterator[Iterator[pb.WatchOutput]]:
        """The messages of a watch, keep-alives left out."""
        body = pb.Watch(keys=[pb.WatchKey(key=key) for key in keys]).SerializeToString()
        with self._stream(path.url("watch"), body, path.headers()) as found:
            assert found.status == 200, found.read()
            yield (pb.WatchOutput.FromString(frame) for frame in frames(found) if frame)

    def metadata(self, url: str, token: str, body: bytes = VERSIONS) -> Answer:
        return self.send(url, body, {"authorization": f"Bearer {token}", "content-type": "application/json"})

    def opened(self, url: str, token: str) -> Path:
        """The data path that the metadata exchange leads to."""
        answer = self.metadata(url, token)
        assert answer.status == 200, answer
        return Path.of(url, answer.body)


@dataclass(frozen=True, slots=True)
class Path:
    """A data path with what opens it."""

    base: str
    database: str
    token: str

    @classmethod
    def of(cls, url: str, metadata: bytes) -> Path:
        document: dict[str, Any] = json.loads(metadata)
        (strong,) = [each["url"] for each in document["endpoints"] if each["consistency"] == "strong"]
        return cls(urljoin(url, strong), document.get("databaseId") or document["uuid"], document["token"])

    def url(self, operation: str) -> str:
        return f"{self.base}/{operation}"

    def headers(self, **other: str) -> dict[str, str]:
        """What a client sends along; `other` by name with underscores, an empty one left out."""
        all_of_them = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/x-protobuf",
            "x-denokv-database-id": self.database,
            "x-denokv-version": "3",
            **{name.replace("_", "-"): value for name, value in other.items()},
        }
        return {name: value for name, value in all_of_them.items() if value}


def frames(stream: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The contents of a watch's frames, empty for keep-alives, until the stream ends."""
    got = bytearray()
    while True:
        piece = stream.read1(65_536)
        if not piece:
            assert not got, "the stream ended within a frame"
            return
        got += piece
        while len(got) >= 4 and len(got) >= (end := 4 + int.from_bytes(got[:4], "little")):
            yield bytes(got[4:end])
            del got[:end]


def get(*keys: bytes) -> bytes:
    """A SnapshotRead of single keys."""
    ranges = [pb.ReadRange(start=key, end=key + b"\0", limit=1) for key in keys]
    return pb.SnapshotRead(ranges=ranges).SerializeToString()


def put(key: bytes, value: bytes) -> bytes:
    """An AtomicWrite that stores bytes."""
    stored = pb.KvValue(data=value, encoding=pb.VE_BYTES)
    return pb.AtomicWrite(mutations=[pb.Mutation(key=key, value=stored, mutation_type=pb.M_SET)]).SerializeToString()


def watch(*keys: bytes) -> bytes:
    return pb.Watch(keys=[pb.WatchKey(key=key) for key in keys]).SerializeToString()


def raw(url: str, data: bytes) -> bytes:
    """What the server says to bytes that need not be HTTP, until it closes the connection or a second has passed."""
    parts = urlsplit(url)
    got = b""
    with socket.create_connection((parts.hostname, parts.port), 60) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        try:
            while piece := connection.recv(65_536):
                got += piece
        except (TimeoutError, ConnectionError):
            pass
    return got
