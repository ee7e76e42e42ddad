"""Directories for the duration of a step: for copies and dumps, which contain data.

Each is deleted at the end of its block; if its process was killed, at the next look: a lock in it shows whether a process
still uses it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from provisioner.core.errors import StorageFailed
from provisioner.system.file_lock import locked, try_lock
from provisioner.system.home import DIRECTORY_MODE, Home

_PREFIX: Final = "scratch-"
_LOCK: Final = "lock"


@contextmanager
def directory(home: Home) -> Iterator[str]:
    """A new one, for the block. Raises StorageFailed."""
    clear(home)
    try:
        os.makedirs(home.work, mode=DIRECTORY_MODE, exist_ok=True)
        with _making(home):
            made = tempfile.mkdtemp(prefix=_PREFIX, dir=home.work)
            held = try_lock(os.path.join(made, _LOCK))
    except OSError as error:
        raise StorageFailed(f"cannot write to {home.work}: {error.strerror}", "Make room there") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


def clear(home: Home) -> None:
    """Remove those whose process is gone."""
    if not _all(home):
        return
    with _making(home):
        for path in _all(home):
            with suppress(StorageFailed):  # another process is removing it
                held = try_lock(os.path.join(path, _LOCK))
                if held is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(held)


def _making(home: Home) -> AbstractContextManager[None]:
    """Held while one is created, before it has a lock."""
    os.makedirs(home.locks, mode=DIRECTORY_MODE, exist_ok=True)
    return locked(os.path.join(home.locks, "scratch.lock"), "the home's scratch directories")


def _all(home: Home) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(home.work) if entry.name.startswith(_PREFIX)]
    except OSError:  # code that needs the directory reports it
        return []
