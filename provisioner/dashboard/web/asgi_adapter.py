"""ASGI on RSGI: what Starlette speaks, on what the server speaks. Of HTTP only what the dashboard uses.

https://asgi.readthedocs.io/en/latest/specs/www.html and https://github.com/emmett-framework/granian describe the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from provisioner.connect.protocol.http_errors import LEFT, TIMEOUT, TOO_LARGE

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 30
_TEXT: Final = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]


class TooLarge(Exception):  # noqa: N818
    """A body has more bytes than anything here takes."""


class Adapter:
    """Answers RSGI requests by an ASGI application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, protocol: Any) -> int:
        """The status that was answered. Raises ProtocolClosed."""
        try:
            body = b"" if scope.method in ("GET", "HEAD") else await _body(scope, protocol)
        except TooLarge:
            protocol.response_str(TOO_LARGE, _TEXT, f"a body has at most {BODY_BYTES} bytes here")
            return TOO_LARGE
        except TimeoutError:
            protocol.response_str(TIMEOUT, _TEXT, f"the body did not come within {BODY_SECONDS} seconds")
            return TIMEOUT
        exchange = _Exchange(protocol, body)
        try:
            await self._app(_scope(scope), exchange.receive, exchange.send)
        finally:
            exchange.close()
        return exchange.status


class _Exchange:
    """One request: its body, then word that the client has left; and its answer."""

    def __init__(self, protocol: Any, body: bytes) -> None:
        self.status = LEFT
        self._protocol = protocol
        self._body: bytes | None = body
        self._headers: list[tuple[str, str]] = []
        self._stream: Any = None
        self._gone: asyncio.Future[Any] | None = None

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._protocol.client_disconnect())
        await asyncio.wait({self._gone})  # not the future itself: whoever waits may be cancelled and ask again
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._stream is None and not more:
            self._protocol.response_bytes(self.status, self._headers, body)
            return
        if self._stream is None:
            self._stream = self._protocol.response_stream(self.status, self._headers)
        if body:
            await self._stream.send_bytes(body)

    def close(self) -> None:
        if self._gone is not None:
            self._gone.cancel()


def _scope(scope: Any) -> Scope:
    path = scope.path
    host, _, port = scope.client.rpartition(":")
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
    if scope.headers.get("host") is None and scope.authority:  # HTTP/2
        headers.append((b"host", scope.authority.encode("latin-1")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": scope.scheme,
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": scope.query_string.encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": (host.strip("[]"), int(port) if port.isdigit() else 0),
        "server": None,
    }


async def _body(scope: Any, protocol: Any) -> bytes:
    length = scope.headers.get("content-length") or ""
    if length.isdigit() and int(length) > BODY_BYTES:
        raise TooLarge
    pieces: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_SECONDS):
        async for piece in protocol:
            size += len(piece)
            if size > BODY_BYTES:
                raise TooLarge
            pieces.append(piece)
    return b"".join(pieces)
