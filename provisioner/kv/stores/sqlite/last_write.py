"""The time of the last write to a database: that of its log, or of its file if the log is empty.

Opening a database makes an empty log, and closing it as the last one moves the log into the file. Neither changes an entry,
so neither is a write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from provisioner.kv.stores.sqlite.open_files import identity


@contextmanager
def kept(file: str) -> Iterator[None]:
    """The block's changes of the log do not count as a write. `file` is the database's own, not a link to it.

    A write of another process in the block is later than the time that is put back, and stands in the log.
    """
    before, written = identity(file), _written(file)
    yield
    if before is not None and before == identity(file):
        with suppress(OSError):  # it is read-only, or was archived in the meantime
            os.utime(file, ns=(written, written))


def _written(file: str) -> int:
    """When (ns since 1970); 0 without a file."""
    times = [0]
    for name in (file, f"{file}-wal"):
        with suppress(OSError):
            found = os.stat(name)
            if found.st_size:
                times.append(found.st_mtime_ns)
    return max(times)
