"""When the file system has created a file, by the kernel's clock: what no program can set."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Final

_HERE: Final = -100  # AT_FDCWD, from fcntl.h
_NO_FOLLOW: Final = 0x100  # AT_SYMLINK_NOFOLLOW
_BIRTH: Final = 0x800  # STATX_BTIME, from linux/stat.h
_AT: Final = 80  # struct statx: stx_btime, as seconds (64 bits) and nanoseconds (32 bits)
_SIZE: Final = 256


def birth_ns(path: bytes) -> int | None:
    """Nanoseconds since 1970; None if there is no such file, or if its file system does not say."""
    if sys.platform != "linux":
        try:
            return int(os.lstat(path).st_birthtime * 1e9)
        except (OSError, AttributeError):
            return None
    buffer = ctypes.create_string_buffer(_SIZE)
    call = _statx()
    if call is None or call(_HERE, path, _NO_FOLLOW, _BIRTH, buffer) != 0:
        return None
    fields = buffer.raw
    if not int.from_bytes(fields[:4], sys.byteorder) & _BIRTH:
        return None
    seconds = int.from_bytes(fields[_AT : _AT + 8], sys.byteorder, signed=True)
    return seconds * 10**9 + int.from_bytes(fields[_AT + 8 : _AT + 12], sys.byteorder)


@cache
def _statx() -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), "statx", None)  # musl has none before 1.2.5
