"""Renames of branches, from the reflogs: the only place where git says that one happened.

``git branch -m old new`` reports the deletion of ``old`` and nothing else; it leaves in the reflog of ``new``, which it
moved from ``old``, the message ``Branch: renamed refs/heads/old to refs/heads/new``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256

from provisioner.git.worktree import HEADS

_MESSAGE = b"\tBranch: renamed " + HEADS
_TO = b" to " + HEADS


@dataclass(frozen=True, slots=True)
class Trail:
    """The names a branch had, latest first, and the mark by which its last rename is known again.

    ``former`` holds only what the reflog says after the mark that was asked about.
    """

    former: tuple[bytes, ...]
    mark: str


def has_reflogs(common_dir: bytes) -> bool:
    """Does the repository keep reflogs of branches? A bare one does only where it was told to."""
    return os.path.isdir(os.path.join(common_dir, b"logs", HEADS))


def trail(common_dir: bytes, branch: bytes, since: str = "") -> Trail:
    """What the reflog of `branch` tells of its renames after the one with the mark `since`."""
    path = os.path.join(common_dir, b"logs", HEADS + branch)
    try:
        with open(path, "rb") as file:
            log = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Trail((), "")
    if _MESSAGE not in log:
        return Trail((), "")
    lines = [line for line in log.split(b"\n") if _MESSAGE in line]
    mark = _mark(lines[-1])
    former: list[bytes] = []
    name = branch
    for line in reversed(lines):
        old, _, new = line.split(_MESSAGE, 1)[1].rpartition(_TO)
        if _mark(line) == since or new != name:
            break
        former.append(old)
        name = old
    return Trail(tuple(former), mark)


def _mark(line: bytes) -> str:
    return sha256(line).hexdigest()[:16]
