"""The lock for running the apps of a home's timelines, which ends with the process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from provisioner.system.file_lock import if_free, locked, try_lock
from provisioner.system.home import Home

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.05


def take_apps(home: Home) -> int | None:
    """Take the lock for running the home's apps, as a descriptor; None if another process has it. A router that no daemon has
    taken over is ended before, or not at all. What only looks whether a process has the lock has it for a moment itself."""
    for _ in range(_TRIES):
        with ending_router(home):
            lock = try_lock(_lock(home))
        if lock is not None:
            return lock
        time.sleep(_PAUSE_SECONDS)
    return None


@contextmanager
def ending_router(home: Home) -> Iterator[None]:
    """In this block no process begins to run the home's apps."""
    with locked(os.path.join(home.locks, "router-end.lock"), "the router"):
        yield


def apps_run(home: Home) -> bool:
    """Does a process run the home's apps?"""
    if not os.path.exists(_lock(home)):
        return False
    with if_free(_lock(home)) as free:
        return not free


def _lock(home: Home) -> str:
    return os.path.join(home.locks, "apps.lock")
