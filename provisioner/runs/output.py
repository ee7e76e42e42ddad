"""The log of a command: its output, without credentials, up to a limit."""

from __future__ import annotations

import os
from contextlib import suppress

from provisioner.core.redaction import RedactedStream
from provisioner.runs.log_times import LogClock

MOST_LOG_BYTES = 10_000_000
MOST_ROTATED_BYTES = 5_000_000  # of each of two files, with its times
OLDER = ".1"  # what the name of the older one ends with
_TAIL_BYTES = 65_536


class OutputLog:
    """A log that is written to a descriptor, whose file is at `path`. At its limit it notes that the rest is not kept."""

    def __init__(self, fd: int, path: str, stream: RedactedStream) -> None:
        self._fd, self._stream, self._left = fd, stream, MOST_LOG_BYTES
        self._clock = LogClock(path)

    def write(self, data: bytes) -> None:
        if self._left > 0:
            self._keep(self._stream.write(data))

    def close(self) -> None:
        """Write the text that was held back."""
        if self._left > 0:
            self._keep(self._stream.close())
        self._clock.close()

    def _keep(self, data: bytes) -> None:
        kept = data[: self._left]
        self._left -= len(kept)
        self._put(kept)
        if self._left <= 0:
            self._put(f"\n[the log is full at {MOST_LOG_BYTES} bytes; the rest is not kept]\n".encode())

    def _put(self, data: bytes) -> None:
        if data:
            before = self._clock.size
            self._clock.note(os.fstat(self._fd).st_size)
            self._left -= self._clock.size - before
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError:  # a full disk must not end the command
                self._left = 0
                return


class RotatedLog:
    """A log without an end: when the file at `path` is full, it becomes the older one, and that is forgotten."""

    def __init__(self, path: str, stream: RedactedStream) -> None:
        self._path, self._stream = path, stream
        self._clock = LogClock(path)
        self._fd = self._open()

    def write(self, data: bytes) -> None:
        self._put(self._stream.write(data))

    def close(self) -> None:
        """Write the text that was held back."""
        self._put(self._stream.close())
        self._clock.close()
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _put(self, data: bytes) -> None:
        with suppress(OSError):  # a full disk must not end the app; its output is lost until there is room
            size = os.fstat(self._fd).st_size
            if size + self._clock.size + len(data) > MOST_ROTATED_BYTES:
                os.rename(self._path, self._path + OLDER)
                self._clock.rotate(self._path + OLDER)
                full, self._fd = self._fd, self._open()
                os.close(full)
                size = 0
            if data:
                self._clock.note(size)
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]


def last_lines(path: str, most: int) -> str:
    """The last lines of a log, at most so many; empty if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-most:])
    except OSError:
        return ""
