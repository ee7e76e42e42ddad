"""The fields of a form that was sent, within bounds: whoever has no session makes the server keep little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from provisioner.connect.protocol.http_errors import TIMEOUT, TOO_LARGE, UNAVAILABLE

BODY_BYTES: Final = 1024 * 1024
STRANGER_BYTES: Final = 256 * 1024  # without a session: what was typed before it ended is carried through the login
STRANGERS_BYTES: Final = 4 * 1024 * 1024  # of all of these together
FREE_BYTES: Final = 4096  # not counted: a login always fits
BODY_SECONDS: Final = 30
FIELDS: Final = 100
_DIGITS: Final = 15  # of a length that is read as a number


class Forms:
    """For the thread of the event loop. `kept`: bytes of requests without a session that are being read."""

    def __init__(self) -> None:
        self.kept = 0

    async def of_stranger(self, request: Request) -> dict[str, str]:
        """Of a request without a session. Raises HTTPException."""
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            grown = max(0, size - FREE_BYTES) - counted
            self.kept, counted = self.kept + grown, counted + grown
            if self.kept > STRANGERS_BYTES:
                raise HTTPException(UNAVAILABLE, "too many forms are being sent")

        try:
            return _parsed(await _body(request, STRANGER_BYTES, count))
        finally:
            self.kept -= counted

    async def of_session(self, request: Request) -> dict[str, str]:
        """Raises HTTPException."""
        return _parsed(await _body(request, BODY_BYTES, lambda _: None)) if request.method == "POST" else {}


async def _body(request: Request, most: int, count: Callable[[int], None]) -> bytes:
    """The body, `count`ed while it comes."""
    too_large = HTTPException(TOO_LARGE, f"a form has at most {most} bytes here")
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > _DIGITS or int(length) > most):
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large
                count(size)
                pieces.append(piece)
    except TimeoutError as error:
        raise HTTPException(TIMEOUT, f"the form did not come within {BODY_SECONDS} seconds") from error
    return b"".join(pieces)


def _parsed(body: bytes) -> dict[str, str]:
    """None of what is no form."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        return {}
