"""ASGI on RSGI: what Starlette speaks, on what the server speaks. Of HTTP only what the dashboard uses.

https://asgi.readthedocs.io/en/latest/specs/www.html and https://github.com/emmett-framework/granian describe the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from starlette.exceptions import HTTPException

from provisioner.connect.protocol.http_errors import LEFT, TIMEOUT, TOO_LARGE
from provisioner.connect.server.request_body import ends_connection

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 30
_DIGITS: Final = 15


class Adapter:
    """Answers RSGI requests by an ASGI application. A body is read when the application asks for it, which is after it knows
    who has sent it; `least` names paths where anybody may send one, and how many bytes it may have."""

    def __init__(self, app: App, least: Mapping[str, int]) -> None:
        self._app = app
        self._least = least

    async def __call__(self, scope: Any, protocol: Any) -> int:
        """The status that was answered. Raises ProtocolClosed."""
        exchange = _Exchange(scope, protocol, self._least.get(scope.path, BODY_BYTES))
        try:
            await self._app(_scope(scope), exchange.receive, exchange.send)
        finally:
            exchange.close()
        return exchange.status


class _Exchange:
    """One request: its body, then word that the client has left; and its answer."""

    def __init__(self, scope: Any, protocol: Any, most: int) -> None:
        self.status = LEFT
        self._scope = scope
        self._protocol = protocol
        self._most = most
        self._read = scope.method in ("GET", "HEAD")
        self._asked = False
        self._headers: list[tuple[str, str]] = []
        self._stream: Any = None
        self._gone: asyncio.Future[Any] | None = None

    async def receive(self) -> Message:
        """Raises HTTPException for a body that is too large or too late."""
        if not self._asked:
            self._asked = True
            body = b"" if self._read else await _body(self._scope, self._protocol, self._most)
            self._read = True
            return {"type": "http.request", "body": body, "more_body": False}
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._protocol.client_disconnect())
        await asyncio.wait({self._gone})  # not the future itself: whoever waits may be cancelled and ask again
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            if not self._read and ends_connection(self._scope, self.status):
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


async def _body(scope: Any, protocol: Any, most: int) -> bytes:
    length = scope.headers.get("content-length") or ""
    too_large = HTTPException(TOO_LARGE, f"a body has at most {most} bytes here")
    if length.isdigit() and (len(length) > _DIGITS or int(length) > most):
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in protocol:
                size += len(piece)
                if size > most:
                    raise too_large
                pieces.append(piece)
    except TimeoutError as error:
        raise HTTPException(TIMEOUT, f"the body did not come within {BODY_SECONDS} seconds") from error
    return b"".join(pieces)
