"""What the file system says of the files of refs and logs. A change of mode, a backup, or a restore sets most of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from provisioner.git.reflog import read_file
from provisioner.git.worktree import HEADS, LOGS
from provisioner.system.birth_time import birth_ns

REWRITING_NS: Final = 10**9
"""Git replaces one log within this time: it creates the new file, and renames it over the old one at once."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """When (ns) the former log of a branch was created, got its last line, and was last linked or removed."""

    created: int
    written: int
    left: int


@dataclass(frozen=True, slots=True)
class Births:
    """When (ns) the files of a branch's log and ref were created. None: the ref has no file, or is an alias."""

    log: int
    ref: int | None


def became(end: LogEnd, now: Births) -> bool:
    """May the log be the file that git made when it rewrote the one that ended?

    Not if the ref was written after the last line of that one, and before the new file: then both were created with it.
    """
    in_order = end.created <= end.written <= now.log <= end.left <= now.log + REWRITING_NS
    return in_order and (now.ref is None or not end.written < now.ref <= now.log)


def log_end(path: bytes) -> LogEnd | None:
    """None if there is no such file, or if its file system says too little."""
    created = birth_ns(path)
    try:
        found = os.stat(path)
    except OSError:
        return None
    return None if created is None else LogEnd(created, found.st_mtime_ns, found.st_ctime_ns)


def births(common_dir: bytes, branch: bytes) -> Births | None:
    """None if there is no log, or if its file system says too little."""
    log = birth_ns(os.path.join(common_dir, LOGS, HEADS + branch))
    return None if log is None else Births(log, ref_birth(common_dir, branch))


def ref_birth(common_dir: bytes, branch: bytes) -> int | None:
    """When (ns) the file that is the ref of this branch was created. None if that is unknown, or the branch has no such file."""
    return None if _alias(common_dir, branch) else birth_ns(_ref(common_dir, branch))


def ref_mark(common_dir: bytes, branch: bytes) -> str:
    """What no other file has that is or becomes the ref of this branch: its inode, and when (ns) it was created.

    Git makes a new file whenever it writes a ref. Empty if the branch has no such file, if it is an alias, or if its file
    system says too little.
    """
    path = _ref(common_dir, branch)
    born = ref_birth(common_dir, branch)
    try:
        return "" if born is None else f"{os.lstat(path).st_ino:x}-{born:x}"
    except OSError:
        return ""


def _ref(common_dir: bytes, branch: bytes) -> bytes:
    return os.path.join(common_dir, HEADS + branch)


def _alias(common_dir: bytes, branch: bytes) -> bool:
    """Is a branch only another name of another one?"""
    path = _ref(common_dir, branch)
    return os.path.islink(path) or read_file(path).startswith(b"ref:")
