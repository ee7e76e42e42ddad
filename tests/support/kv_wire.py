"""A server of KV Connect with faults: it does what it is told to with the next requests, over a store in memory.

Only for what no real server does when it is asked: cutting connections, and answers that are none.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from provisioner.connect.protocol.http_errors import Refused
from provisioner.connect.server import decode
from provisioner.connect.server.encode import read_answer
from provisioner.kv.errors import KvError
from provisioner.kv.local_store import Row
from provisioner.kv.model import RawEntry, ReadRange
from provisioner.kv.stores.memory import MemoryStore

IDENTITY = "0b1e4b5c-0d4f-4a54-9f6f-0f6a1c6d7e8f"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its answer. `done`: it is carried out all the same.

    `status` None: the connection is cut. `short`: the answer ends before the length that it announces.
    """

    done: bool = False
    status: int | None = None
    body: bytes = b"a fault"
    kind: str = "text/plain"
    short: bool = False


@dataclass
class Wire:
    """`faults` are used up one by one, by the path's last part; `asked` are the paths that were asked."""

    url: str
    store: MemoryStore
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    token: str = "data-1"
    connections: int = 0
    streams: set[Any] = field(default_factory=set)

    def fail(self, name: str, *faults: Fault) -> None:
        self.faults.setdefault(name, deque()).extend(faults)

    def count(self, name: str) -> int:
        return sum(path.endswith(name) for path in self.asked)

    def cut_streams(self) -> None:
        for connection in tuple(self.streams):
            with suppress(OSError):  # its client was faster
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire() -> Iterator[Wire]:
    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Wire(f"http://127.0.0.1:{server.server_port}/v2/databases/{IDENTITY}/connect", MemoryStore())
    made.metadata = {
        "version": 3,
        "databaseId": IDENTITY,
        "endpoints": [{"url": f"/v2/databases/{IDENTITY}", "consistency": "strong"}],
        "token": made.token,
        "expiresAt": "2099-01-01T00:00:00Z",
    }
    Handler.wire = made
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        made.cut_streams()
        server.server_close()
        made.store.close()


class _Handler(BaseHTTPRequestHandler):
    wire: ClassVar[Wire]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.wire.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        name = self.path.rpartition("/")[2]
        self.wire.asked.append(self.path)
        faults = self.wire.faults.get(name)
        fault = faults.popleft() if faults else None
        if fault is not None:
            if fault.done:
                self._carried_out(name, body)
            self._fail(fault)
        elif name == "watch" and self._bearer() == self.wire.token:
            self._watch(decode.watched_keys(body))
        else:
            self._send(*self._carried_out(name, body))

    def _rows(self, ranges: list[ReadRange]) -> list[list[Row]]:
        return [
            [(key, item, encoding, int.from_bytes(stamp[:8], "big")) for key, item, encoding, stamp in entries]
            for entries in self.wire.store.read(ranges)
        ]

    def _carried_out(self, name: str, body: bytes) -> tuple[int, str, bytes]:
        wire = self.wire
        if self._bearer() != ("access" if name == "connect" else wire.token):
            return 401, "text/plain", b"wrong token"
        try:
            if name == "connect":
                return 200, "application/json", json.dumps({**wire.metadata, "token": wire.token}).encode()
            if name == "snapshot_read":
                return 200, PROTOBUF, read_answer(self._rows(decode.ranges_of(body)[0]))
            if name == "atomic_write":
                (outcome,) = wire.store.write([decode.write_of(body)])
                if isinstance(outcome, KvError):
                    raise Refused(400, str(outcome))
                return 200, PROTOBUF, decode.write_answer(outcome)
        except Refused as refused:
            return refused.status, "text/plain", refused.text.encode()
        return 404, "text/plain", b"there is nothing here"

    def _bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def _send(self, status: int, kind: str, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def _fail(self, fault: Fault) -> None:
        self.close_connection = fault.short or fault.status is None
        if fault.status is not None:
            self._send(fault.status, fault.kind, fault.body, len(fault.body) + 3 if fault.short else None)

    def _watch(self, keys: list[bytes]) -> None:
        woken = threading.Event()
        ranges = [ReadRange(key, key + b"\0", 1) for key in keys]
        subscription = self.wire.store.watch(keys, woken.set)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        self.wire.streams.add(self.connection)
        try:
            while True:
                found = self.wire.store.read(ranges)
                entries: list[RawEntry | None] = [entries[0] if entries else None for entries in found]
                frame = decode.watch_frame(entries)
                for piece in (decode.KEEP_ALIVE + frame[:2], frame[2:7], frame[7:]):  # cut anywhere
                    self.wfile.write(piece)
                while not woken.wait(0.05):
                    self.wfile.write(decode.KEEP_ALIVE)
                woken.clear()
        except (OSError, KvError, ValueError):
            return
        finally:
            self.wire.streams.discard(self.connection)
            subscription.close()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""
