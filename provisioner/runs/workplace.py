"""The working directory of a command: in its run's directory in the home, which is deleted when the run is over.

A command that runs as another account, which cannot enter the home, has it in ``/var/tmp``.
"""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import suppress
from dataclasses import dataclass

from provisioner.core.errors import StorageFailed
from provisioner.system.home import DIRECTORY_MODE, Home

OUTSIDE = "/var/tmp"  # noqa: S108 - the directory below is new, and its name cannot be guessed
_BEGINNING = "provisioner-"


@dataclass(frozen=True, slots=True)
class Workplace:
    """``checkout`` is where the command is started, ``home`` its home directory; both are in ``root``."""

    root: str

    @property
    def checkout(self) -> str:
        return os.path.join(self.root, "checkout")

    @property
    def home(self) -> str:
        return os.path.join(self.root, "home")


def place(home: Home, run_id: str, user: str = "") -> Workplace:
    """A run's workplace, whether it exists or not."""
    return Workplace(_inside(home, run_id) if not user else _outside(run_id))


def make(home: Home, run_id: str, user: str = "") -> Workplace:
    """An empty one for a run. Raises StorageFailed."""
    found = place(home, run_id, user)
    try:
        if not user:
            os.makedirs(home.work, mode=DIRECTORY_MODE, exist_ok=True)
        for path in (found.root, found.checkout, found.home, os.path.join(found.home, "tmp")):
            os.mkdir(path, DIRECTORY_MODE)
    except OSError as error:
        raise StorageFailed(
            f"cannot create {found.root}: {error.strerror}", "Make room, or make it writable"
        ) from error
    return found


def give(place: Workplace, user: str) -> None:
    """Make another account the owner of everything there. Raises StorageFailed."""
    try:
        account = pwd.getpwnam(user)
        for directory, _, names in os.walk(place.root):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    except (KeyError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such account"
        raise StorageFailed(f"cannot give {place.root} to {user}: {why}", "Only root can") from error


def run_ids(home: Home) -> list[str]:
    """The names of all workplaces: the runs that have one, those of other homes, and of what else is there."""
    found = []
    for directory, beginning in ((home.work, ""), (OUTSIDE, _BEGINNING)):
        with suppress(FileNotFoundError):
            names = os.listdir(directory)
            found += [name.removeprefix(beginning) for name in names if name.startswith(beginning)]
    return found


def remove(home: Home, run_id: str) -> None:
    """Remove it, whatever the command has left there."""
    for path in (_inside(home, run_id), _outside(run_id)):
        shutil.rmtree(path, ignore_errors=True)
        if os.path.isdir(path):  # directories that the command made read-only
            for directory, _, _ in os.walk(path):
                with suppress(FileNotFoundError):  # another thread removes it, too
                    os.chmod(directory, DIRECTORY_MODE)
            shutil.rmtree(path, ignore_errors=True)


def _inside(home: Home, run_id: str) -> str:
    return os.path.join(home.work, run_id)


def _outside(run_id: str) -> str:
    return os.path.join(OUTSIDE, _BEGINNING + run_id)
