"""The remains of an embedded server that was killed, whose instance was permanently deleted, or whose home is gone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from glob import glob

from provisioner.engines.protocol import instance_mark, location
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import FILE_MODE
from provisioner.system.processes import are_shown, process_ids

OWNER_FILE = "home"
"""In a directory of `place.FOR_ROOT`: names the home whose server it is."""
_SECONDS = 60.0
_LOOK_SECONDS = 0.02


def see_off(data: str) -> None:
    """Wait for the processes of a server that was killed, and forget it where only its name is left.

    PostgreSQL takes a dead process for a living one until its parent has looked, which in a container may be never.
    """
    patience = time.monotonic() + _SECONDS
    while (at_work := processes_in(os.path.realpath(data))) and time.monotonic() < patience:
        time.sleep(_LOOK_SECONDS)
    if at_work == []:
        for left in (os.path.join(data, "postmaster.pid"), *glob(os.path.join(os.path.dirname(data), ".s.PGSQL.*"))):
            with suppress(FileNotFoundError):
                os.unlink(left)


def delete(directory: str) -> None:
    """The files of a server that does not run, the password last: until then it is found again. Raises OSError."""
    data = location.data_of(directory)
    elsewhere = os.path.dirname(data)
    if elsewhere == directory:
        for path in (data, f"{data}.new"):
            shutil.rmtree(path, ignore_errors=not os.path.exists(path))
    elif os.path.dirname(elsewhere) == location.FOR_ROOT and _owner(elsewhere) in (None, os.path.realpath(directory)):
        shutil.rmtree(elsewhere, ignore_errors=not os.path.exists(elsewhere))
    for name in (
        location.PORT_FILE,
        "log",
        "elsewhere",
        "own-files",
        instance_mark.FILE_NAME,
        location.PASSWORD_FILE,
        "lock",
    ):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    with suppress(OSError):  # other files there stay
        os.rmdir(directory)


def homeless() -> Iterator[tuple[str, str]]:
    """The directories of root's servers whose homes are missing, or no longer own them, and where those were."""
    with suppress(OSError):
        for name in sorted(os.listdir(location.FOR_ROOT)):
            elsewhere = os.path.join(location.FOR_ROOT, name)
            directory = _owner(elsewhere)
            if directory is not None and os.path.dirname(location.data_of(directory)) != elsewhere:
                yield elsewhere, directory


def own(elsewhere: str, directory: str) -> None:
    """From here on, it has the files of this server, wherever that was before. Raises OSError."""
    replace_file(os.path.join(elsewhere, OWNER_FILE), os.fsencode(os.path.realpath(directory)), FILE_MODE)


def _owner(elsewhere: str) -> str | None:
    """None where it does not say: those of older versions did not."""
    try:
        with open(os.path.join(elsewhere, OWNER_FILE), "rb") as file:
            return os.fsdecode(file.read())
    except OSError:
        return None


def processes_in(data: str) -> list[str] | None:
    """The living processes of a server in a directory, including one that is only starting; None if the system does not show
    them."""
    if not are_shown():
        return None
    return [str(number) for number in process_ids() if _works_in(number, data)]


def _works_in(number: int, data: str) -> bool:
    """Is it one of the server's? A shell may be in its directory, too."""
    try:
        with open(f"/proc/{number}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
        if "postgres" not in words[0]:
            return False
        starts = "-D" in words and os.path.realpath(words[words.index("-D") + 1]) == data
        return starts or os.readlink(f"/proc/{number}/cwd") == data
    except (OSError, IndexError):  # a dead one's cannot be read
        return False
