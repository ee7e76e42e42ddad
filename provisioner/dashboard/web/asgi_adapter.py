"""ASGI, which Starlette speaks, on RSGI, which the server speaks. Only the parts of HTTP that the dashboard uses.

https://asgi.readthedocs.io/en/latest/specs/www.html and https://github.com/emmett-framework/granian describe the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from provisioner.connect.protocol.http_errors import LEFT
from provisioner.connect.server.request_body import ends_connection

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Adapter:
    """Answers RSGI requests with an ASGI application. It stores no body: the application reads as much as it needs."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, protocol: Any) -> int:
        """The status of the answer. Raises ProtocolClosed."""
        exchange = _Exchange(scope, protocol, None if scope.method in ("GET", "HEAD") else aiter(protocol))
        try:
            await self._app(_scope(scope), exchange.receive, exchange.send)
        finally:
            exchange.close()
        return exchange.status


class _Exchange:
    """One request: its body, piece by piece, then the notice that the client has left; and its answer."""

    def __init__(self, scope: Any, protocol: Any, body: AsyncIterator[bytes] | None) -> None:
        self.status = LEFT
        self._scope = scope
        self._protocol = protocol
        self._body = body
        self._ended = False
        self._headers: list[tuple[str, str]] = []
        self._stream: Any = None
        self._gone: asyncio.Future[Any] | None = None

    async def receive(self) -> Message:
        if not self._ended:
            piece = await self._piece()
            self._ended = piece is None
            return {"type": "http.request", "body": piece or b"", "more_body": not self._ended}
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._protocol.client_disconnect())
        await asyncio.wait({self._gone})  # not the future itself: a waiting task may be canceled and ask again
        return {"type": "http.disconnect"}

    async def _piece(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        if self._body is None:
            return None
        try:
            return await self._body.__anext__()  # anext() with a default ends granian
        except StopAsyncIteration:
            return None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            unread = self._body is not None and not self._ended
            if unread and ends_connection(self._scope, self.status):
                self._headers.append(("connection", "close"))
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
