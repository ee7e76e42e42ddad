"""A proxy before a PostgreSQL server that breaks connections at the instant when a transaction ends.

It reads as much of the protocol as tells which requests of a client commit.
"""

from __future__ import annotations

import enum
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b"Z\x00\x00\x00\x05"
ENCRYPTION = (80877103, 80877104)  # what a client asks for before it begins


class Cut(enum.Enum):
    UNSENT = "before the server hears of it"
    UNANSWERED = "after the server has answered, so it was committed"
    LATE = "at once, but the server hears of it, when `late` is set"


class Proxy:
    """`plan` says what becomes of the next requests that commit; behind its end each is cut with the probability `chance`.
    `refusing`: new connections are closed at once. `silent`: it swallows what it is sent, as a network does that is cut."""

    def __init__(self, port: int) -> None:
        self.plan: deque[Cut | None] = deque()
        self.chance = 0.0
        self.late = threading.Event()
        self.refusing = False
        self.silent = False
        self.cuts = self.swallowed = 0
        self._held: list[socket.socket] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.late.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._held:
            client.close()

    def url(self, url: str) -> str:
        return url.replace(f":{self._port}/", f":{self.port}/")

    def next_cut(self) -> Cut | None:
        if self.plan:
            return self.plan.popleft()
        return random.choice(list(Cut)) if random.random() < self.chance else None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            if self.silent:
                self._held.append(client)
                self.swallowed += 1
                continue
            threading.Thread(target=_Session(self, client, self._port).run, daemon=True).start()


class _Session:
    def __init__(self, proxy: Proxy, client: socket.socket, port: int) -> None:
        self._proxy = proxy
        self._client = client
        self._port = port
        self._statements: dict[bytes, bytes] = {}
        self._swallowing = False
        self._swallowed = threading.Event()

    def run(self) -> None:
        with self._client:
            try:
                self._server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            with self._server:
                threading.Thread(target=self._answers, daemon=True).start()
                with suppress(OSError):
                    self._requests()
                for end in (self._client, self._server):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _answers(self) -> None:
        with suppress(OSError):
            tail = b""
            while data := self._server.recv(65536):
                if self._swallowing:
                    tail = (tail + data)[-6:]
                    if tail.startswith(READY):
                        break
                elif not self._proxy.silent:
                    self._client.sendall(data)
        self._swallowed.set()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        self._startup()
        burst, commits = b"", False
        while True:
            kind = self._exactly(1)
            size = self._exactly(4)
            body = self._exactly(struct.unpack("!I", size)[0] - 4)
            burst += kind + size + body
            if kind == b"P":
                name, query = body.split(b"\0")[:2]
                self._statements[name] = query
            elif kind == b"B":
                query = self._statements.get(body.split(b"\0")[1], b"")
                commits = commits or query == b"commit" or b"deno_kv.end_writing" in query
            elif kind in b"SHQXp":
                cut = self._proxy.next_cut() if commits else None
                if cut is not None:
                    self._cut(cut, burst)
                    return
                if self._proxy.silent:
                    self._proxy.swallowed += 1
                else:
                    self._server.sendall(burst)
                burst, commits = b"", False

    def _cut(self, cut: Cut, burst: bytes) -> None:
        self._proxy.cuts += 1
        if cut is Cut.UNSENT:
            return
        self._swallowing = True
        if cut is Cut.LATE:
            self._client.shutdown(socket.SHUT_RDWR)
            self._proxy.late.wait(1)
        self._server.sendall(burst)
        self._swallowed.wait(60)

    def _startup(self) -> None:
        while True:
            size = self._exactly(4)
            body = self._exactly(struct.unpack("!I", size)[0] - 4)
            self._server.sendall(size + body)
            if struct.unpack("!I", body[:4])[0] not in ENCRYPTION:
                return

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._client.recv(count - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
