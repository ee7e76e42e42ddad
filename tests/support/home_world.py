"""Homes that are moved, copied and restored, and what was changed in one meanwhile."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import run

Photograph = dict[str, tuple[object, ...]]


def photograph(*directories: Path) -> Photograph:
    """Every file below, with its inode, its mode, when it was changed, and what is in it."""
    gc.collect()  # a connection of this process to a registry is closed when it is collected
    found: Photograph = {}
    for top in directories:
        for directory, _, names in os.walk(top):
            for path in (Path(directory), *(Path(directory) / name for name in names)):
                status = path.lstat()
                held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
                found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_size, held)
    return found


def contents(directory: Path) -> dict[str, str]:
    """What is in every file below, and only that: a file may have been written anew as it was."""
    return {path: str(held) for path, (*_, held) in photograph(directory).items()}


def copy(home: Path, target: Path) -> Path:
    """What `cp -a` makes of it."""
    run(home.parent, "cp", "-a", home, target, check=True)
    return target


def restore(home: Path) -> None:
    """Put a copy of the home in its place, as a restore from a backup does."""
    copy(home, home.with_name("backup"))
    shutil.rmtree(home)
    copy(home.with_name("backup"), home)
    shutil.rmtree(home.with_name("backup"))


def edit_identity(home: Path, line: int, text: str) -> None:
    """Change one line of the identity, in the file as it is."""
    path = home / "identity"
    lines = path.read_text().split("\n")
    lines[line] = text
    with path.open("r+") as file:
        file.write("\n".join(lines))
        file.truncate()


@contextmanager
def at(home: Path) -> Iterator[None]:
    """The commands in this block are run in another home."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PROVISIONER_HOME", str(home))
        yield
