"""Reading a file that a tenant's program may have replaced with anything. Light: `exec` imports it."""

from __future__ import annotations

import os
import stat

MOST_OF_A_RECORD = 64 * 1024  # bytes of an owner record: names of branches and paths are at most 4 KiB each


def read_text(path: str, most: int = MOST_OF_A_RECORD) -> str:
    """The text of a regular file; empty if there is none, if it has more than `most` bytes, or if it is something else: a
    link, which could lead elsewhere, a directory, a pipe, or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return ""
        content = b""
        while len(content) <= most and (piece := os.read(fd, most + 1 - len(content))):
            content += piece
    except OSError:
        return ""
    finally:
        os.close(fd)
    return content.decode("utf-8", "replace") if len(content) <= most else ""
