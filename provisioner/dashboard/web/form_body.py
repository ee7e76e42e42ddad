"""The fields of a form, within bounds: a client without a session can make the server store only a little."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from provisioner.connect.protocol.http_errors import LENGTH_REQUIRED, TIMEOUT, TOO_LARGE, UNAVAILABLE

BODY_BYTES: Final = 1024 * 1024
STRANGER_BYTES: Final = 256 * 1024  # without a session: typed values are carried through the login
STRANGERS_BYTES: Final = 4 * 1024 * 1024  # of all of these together
FREE_BYTES: Final = 4096  # not counted: a login always fits
BODY_SECONDS: Final = 30
FIELDS: Final = 100
_DIGITS: Final = 15  # of a length that are read: with more, it is too large in any case


class Forms:
    """For the thread of the event loop. `kept`: bytes of requests without a session that are being read."""

    def __init__(self) -> None:
        self.kept = 0

    async def of_stranger(self, request: Request) -> dict[str, str]:
        """The fields of a request without a session, which must state its length, as browsers do. Raises HTTPException.

        Nothing is read before there is room for all of it, because the HTTP library buffers what arrives faster than it is read.
        """
        size = _length(request)
        if size is None:
            raise HTTPException(LENGTH_REQUIRED, "a form without a session needs a Content-Length")
        counted = size if size > FREE_BYTES else 0
        if size <= STRANGER_BYTES and self.kept + counted > STRANGERS_BYTES:
            raise HTTPException(UNAVAILABLE, "too many forms are being sent")
        self.kept += counted
        try:
            return _parsed(await _body(request, STRANGER_BYTES))
        finally:
            self.kept -= counted

    async def of_session(self, request: Request) -> dict[str, str]:
        """Raises HTTPException."""
        return _parsed(await _body(request, BODY_BYTES)) if request.method == "POST" else {}


async def _body(request: Request, most: int) -> bytes:
    too_large = HTTPException(TOO_LARGE, f"a form has at most {most} bytes here")
    if (_length(request) or 0) > most:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large
                pieces.append(piece)
    except TimeoutError as error:
        raise HTTPException(TIMEOUT, f"the form did not come within {BODY_SECONDS} seconds") from error
    return b"".join(pieces)


def _length(request: Request) -> int | None:
    """The length of a body, in bytes. None if the request does not state it."""
    said = request.headers.get("content-length")
    if said is None:
        empty = request.scope["http_version"].startswith("1") and "transfer-encoding" not in request.headers
        return 0 if empty else None
    if not said.isdigit():
        return None
    return int(said[:_DIGITS])


def _parsed(body: bytes) -> dict[str, str]:
    """The fields of a body; none if it is not a form."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        return {}
