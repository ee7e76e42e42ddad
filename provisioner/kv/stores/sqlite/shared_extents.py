"""Which parts of two files are the same blocks of the disk, where a file system can share them (xfs, btrfs, bcachefs).

Linux says where a file lies: https://docs.kernel.org/filesystems/fiemap.html
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct
from typing import Final

_FIEMAP: Final = 0xC020660B
_SYNC: Final = 1  # write out first what is in memory only: its old blocks may still be shared
_LAST: Final = 1
_SHARED: Final = 0x2000
_UNSURE: Final = (
    0x0002 | 0x0004 | 0x0008 | 0x0080 | 0x0100 | 0x0200 | 0x0400 | 0x0800
)  # not plain blocks of this file alone
_AT_ONCE: Final = 500
_HEAD: Final = Struct("=QQIIII")
_EXTENT: Final = Struct("=QQQQQIIII")


def shared(one: int, other: int, size: int) -> list[tuple[int, int]]:
    """The ranges (from, to before, in bytes) in which two open files are the same blocks; empty if that is unknown."""
    if sys.platform != "linux":
        return []
    try:
        ours = list(_extents(one, size))
        if not ours:
            return []
        theirs = list(_extents(other, size))
    except OSError:
        return []
    return list(_common(ours, theirs))


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Start, end, and how much further the block is on the disk, of what shares its blocks with some file."""
    import fcntl

    start = 0
    while start < size:
        buffer = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(buffer, 0, start, size - start, _SYNC, 0, _AT_ONCE, 0)
        fcntl.ioctl(descriptor, _FIEMAP, buffer)
        count = _HEAD.unpack_from(buffer)[3]
        if not count:
            return
        for number in range(count):
            logical, physical, length, _, _, flags, *_ = _EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size)
            if flags & _SHARED and not flags & _UNSURE:
                yield logical, logical + length, physical - logical
            start = logical + length
            if flags & _LAST:
                return


def _common(ours: list[tuple[int, int, int]], theirs: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    mine = its = 0
    while mine < len(ours) and its < len(theirs):
        start, end = max(ours[mine][0], theirs[its][0]), min(ours[mine][1], theirs[its][1])
        if start < end and ours[mine][2] == theirs[its][2]:
            yield start, end
        if ours[mine][1] < theirs[its][1]:
            mine += 1
        else:
            its += 1
