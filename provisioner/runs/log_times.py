"""When the bytes of a log were written: in a file beside it, so that the log is what the command printed, and nothing else.

The file has pairs of numbers of eight bytes: from this offset on, the log was written at this time (ms) or later.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress

from provisioner.core.clock import now_ms

TIMES = ".times"  # what the name of the file ends with, after that of its log
EVERY_MS = 10
_NUMBER = "Q"


def times_path(log: str) -> str:
    return log + TIMES


class LogClock:
    """Writes the times of a log while that is written. What does not fit on the disk is left out.

    ``size`` is that of its file in bytes, which count as the log's: a byte at a time, the times are longer than the log.
    """

    def __init__(self, log: str) -> None:
        self._log, self._last = log, 0
        self._fd = -1
        self.size = _size(times_path(log))

    def note(self, offset: int) -> None:
        """The log is written from this offset on, now."""
        now = now_ms()
        if 0 <= now - self._last < EVERY_MS:
            return
        with suppress(OSError):
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(times_path(self._log), flags, 0o600)
            self.size += os.write(self._fd, array(_NUMBER, (offset, now)).tobytes())
            self._last = now

    def rotate(self, older: str) -> None:
        """The log has the name `older` now, and a new one begins."""
        self.close()
        self.size = 0
        with suppress(OSError):
            os.rename(times_path(self._log), times_path(older))

    def close(self) -> None:
        fd, self._fd, self._last = self._fd, -1, 0
        if fd >= 0:
            os.close(fd)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


class LogTimes:
    """The times of a log, as far as they are known."""

    def __init__(self, log: str, began: int) -> None:
        """`began` is the time of what was written before times were."""
        numbers = array(_NUMBER)
        with suppress(OSError), open(times_path(log), "rb") as file:
            data = file.read()
            numbers.frombytes(data[: len(data) // 16 * 16])
        self._offsets, self._times, self._began = numbers[0::2], numbers[1::2], began

    def at(self, offset: int) -> int:
        """When the byte at this offset was written, in ms since 1970."""
        place = bisect_right(self._offsets, offset) - 1
        return self._times[place] if place >= 0 else self._began

    def since(self, moment: int) -> int:
        """An offset before which everything was written before this moment."""
        place = bisect_left(self._times, moment) - 1
        return self._offsets[place] if place >= 0 else 0
