"""Space kept back in the home, so that a full disk can still be recorded as such.

A file that holds nothing but its size: giving it up makes room (and an inode) for the transaction that says what went
wrong. Losing it costs nothing; it is made again when there is room.
"""

from __future__ import annotations

import os

from provisioner.system.home import FILE_MODE, Home

RESERVE_BYTES = 512 * 1024
OPEN_INODES = 2  # SQLite's -wal and -shm
SPARE_BYTES = 16 * 1024  # for the directory and the file system's own


class Reserve:
    """The reserve of one home. None of it raises: without a reserve everything works until the disk is full."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def keep(self) -> None:
        """Have the reserve there, as large as the disk allows."""
        path = self._home.reserve
        size = min(RESERVE_BYTES, self._free_bytes() - SPARE_BYTES)
        if size <= 0 or (os.path.exists(path) and os.path.getsize(path) >= size):
            return
        try:
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(b"\0" * size)
            os.rename(path + ".new", path)
        except OSError:
            self.spend()  # no room for it now; the next opening tries again

    def make_room(self) -> bool:
        """Give it up before a transaction that could fill the disk: a commit that fails cannot be had again.

        True where that gained anything; `keep` is then due after the transaction.
        """
        return self.short() and self.spend()

    def spend(self) -> bool:
        """Give it up. False where there was none."""
        spent = False
        for path in (self._home.reserve, self._home.reserve + ".new"):
            try:
                os.unlink(path)
                spent = True
            except OSError:
                continue
        return spent

    def short(self) -> bool:
        """Is there less space in the home than a transaction may need?"""
        return self._free_bytes() < RESERVE_BYTES

    def _free_bytes(self) -> int:
        """What this user may still write in the home; 0 where not even the registry can be opened for want of inodes."""
        try:
            disk = os.statvfs(self._home.path)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize if disk.f_favail >= OPEN_INODES or not disk.f_files else 0
