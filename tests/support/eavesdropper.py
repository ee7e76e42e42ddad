"""An app of a development branch on another port of the same machine: it writes down what browsers send to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from threaded_server import threaded


@dataclass(slots=True)
class Eavesdropper:
    """`page` is what it answers with. `heard` are the lines of each request: what was asked for, and every header."""

    port: int
    page: str = "<!doctype html><title>an app</title>"
    heard: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    @property
    def everything(self) -> str:
        return "\n".join([*self.heard, *self.bodies])


@contextmanager
def eavesdropping() -> Iterator[Eavesdropper]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.app = app = Eavesdropper(server.server_port)  # type: ignore[attr-defined]
    with threaded(server):
        yield app


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        app: Eavesdropper = self.server.app  # type: ignore[attr-defined]
        app.heard.append(f"{self.command} {self.path}\n{self.headers}")
        app.bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())
        content = app.page.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
