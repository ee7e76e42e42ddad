"""What a request is refused with. Its text is what the user of the app sees."""

from __future__ import annotations

from typing import Final

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
TIMEOUT: Final = 408
CONFLICT: Final = 409
GONE: Final = 410
LENGTH_REQUIRED: Final = 411
TOO_LARGE: Final = 413
FAILED: Final = 422
"""The server failed unexpectedly, so the outcome of a write is unknown."""
TOO_MANY: Final = 429
LEFT: Final = 499
"""Only counted and logged, as nginx does: the client has left before it was answered."""
UNAVAILABLE: Final = 503
"""The only one that clients retry, and they do so indefinitely: only for temporary failures."""


class Refused(Exception):  # noqa: N818 - named for what happened
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
