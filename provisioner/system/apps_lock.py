"""The lock for running the apps of a home's timelines, which ends with the process."""

from __future__ import annotations

import os

from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home


def take_apps(home: Home) -> int | None:
    """Take the lock for running the home's apps, as a descriptor; None if another process has it."""
    return try_lock(_lock(home))


def apps_run(home: Home) -> bool:
    """Does a process run the home's apps?"""
    if not os.path.exists(_lock(home)):
        return False
    lock = try_lock(_lock(home))
    if lock is None:
        return True
    os.close(lock)
    return False


def _lock(home: Home) -> str:
    return os.path.join(home.locks, "apps.lock")
