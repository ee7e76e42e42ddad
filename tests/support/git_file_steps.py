"""What happens to a repository's files beside git: lost logs, other modes and times, hard links, copies, and restores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

ANCHORS = "provisioner/branches"


def lose_logs(git_dir: Path) -> None:
    shutil.rmtree(git_dir / "logs", ignore_errors=True)


def allow_group(git_dir: Path) -> None:
    """``chmod -R g+w``"""
    for path in (git_dir, *git_dir.rglob("*")):
        path.chmod(path.stat().st_mode | 0o020)


def touch(git_dir: Path) -> None:
    for path in git_dir.rglob("*"):
        os.utime(path)


def link(git_dir: Path) -> None:
    """A backup of hard links, as ``cp -al`` makes it."""
    backup = git_dir.parent / "linked"
    shutil.rmtree(backup, ignore_errors=True)
    shutil.copytree(git_dir, backup, copy_function=os.link, symlinks=True)


def restore_anchors(git_dir: Path) -> None:
    """Replace the anchors by copies with their times, as rsync does with files that differ."""
    for path in (git_dir / ANCHORS).rglob("*"):
        if path.is_file() and path.name not in ("ORIGINAL", "WITNESS"):
            shutil.copy2(path, f"{path}.new")
            os.replace(f"{path}.new", path)


def copy_with_links(git_dir: Path) -> None:
    """A copy in the place of the repository, as ``cp -a`` makes it."""
    _replace(git_dir, lambda copy: subprocess.run(["cp", "-a", git_dir, copy], check=True))


def copy_without_links(git_dir: Path) -> None:
    """A copy in the place of the repository, as ``rsync -a`` makes it."""
    _replace(git_dir, lambda copy: shutil.copytree(git_dir, copy, symlinks=True))


def _replace(git_dir: Path, copy: Callable[[Path], object]) -> None:
    other = git_dir.with_name("copy")
    copy(other)
    shutil.rmtree(git_dir)
    other.rename(git_dir)


CHANGES = (allow_group, touch, link, restore_anchors, copy_with_links, copy_without_links)
LOSS = lose_logs.__name__
FILE_STEPS: dict[str, Callable[[Path], None]] = {step.__name__: step for step in (lose_logs, *CHANGES)}
