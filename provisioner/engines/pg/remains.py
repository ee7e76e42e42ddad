"""What is left of an embedded server that was killed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from glob import glob

_SECONDS = 60.0
_LOOK_SECONDS = 0.02


def see_off(data: str) -> None:
    """Wait for the processes of a server that was killed, and forget it where only its name is left.

    PostgreSQL takes a dead process for a living one until its parent has looked, which in a container may be never.
    """
    patience = time.monotonic() + _SECONDS
    while (at_work := _processes_in(data)) and time.monotonic() < patience:
        time.sleep(_LOOK_SECONDS)
    if at_work == []:
        for left in (os.path.join(data, "postmaster.pid"), *glob(os.path.join(os.path.dirname(data), ".s.PGSQL.*"))):
            with suppress(FileNotFoundError):
                os.unlink(left)


def _processes_in(data: str) -> list[str] | None:
    """The living processes that work in a directory, as all of a server's do; None where the system does not tell."""
    if not os.path.isdir("/proc/self"):
        return None
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/cwd") == data:
                found.append(name)
        except OSError:  # a dead one's cannot be read
            continue
    return found
