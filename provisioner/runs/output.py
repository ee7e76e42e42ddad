"""The log of a command: what it printed, without its credentials, up to a limit."""

from __future__ import annotations

import os

from provisioner.core.redaction import RedactedStream

MOST_LOG_BYTES = 10_000_000


class OutputLog:
    """A log that is written to a descriptor. At its limit it says that the rest is not kept."""

    def __init__(self, fd: int, stream: RedactedStream) -> None:
        self._fd, self._stream, self._left = fd, stream, MOST_LOG_BYTES

    def write(self, data: bytes) -> None:
        if self._left > 0:
            self._keep(self._stream.write(data))

    def close(self) -> None:
        """Write what was held back."""
        if self._left > 0:
            self._keep(self._stream.close())

    def _keep(self, data: bytes) -> None:
        kept = data[: self._left]
        self._left -= len(kept)
        self._put(kept)
        if self._left <= 0:
            self._put(f"\n[the log is full at {MOST_LOG_BYTES} bytes; the rest is not kept]\n".encode())

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError:  # a full disk is no reason to end the command
                self._left = 0
                return
