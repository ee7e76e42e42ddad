"""Renames of branches, from the reflogs: the only place where git says that one happened.

``git branch -m old new`` reports the deletion of ``old`` and nothing else; it leaves in the reflog of ``new``, which it
moved from ``old``, the message ``Branch: renamed refs/heads/old to refs/heads/new``.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from provisioner.git.worktree import HEADS

_MESSAGE = b"\tBranch: renamed " + HEADS
_TO = b" to " + HEADS
_PIECE = 65536
_DIGITS = 18  # of a time
SETTLED_NS = 60_000_000_000  # git writes its message after it has moved the log, at once unless somebody stops it


@dataclass(frozen=True, slots=True)
class Move:
    """One rename. `at` is git's word for when, in seconds; `mark` is how it is known again, in this log or another.

    Git copies a log with its branch and drops old lines, so a mark is not made of the line's place, but of the line and
    of all that stand before it from the same second: two branches may take the same name, and write the same line,
    within one, but what brought the second of them to its old name then stands before it.
    """

    old: bytes
    new: bytes
    at: int
    mark: str


@dataclass(frozen=True, slots=True)
class Log:
    """A branch's renames, first to last, and since when (seconds) its log goes."""

    born: int
    moves: tuple[Move, ...]


def has_reflogs(common_dir: bytes) -> bool:
    """Does the repository keep reflogs of branches? A bare one does only where it was told to."""
    return os.path.isdir(os.path.join(common_dir, b"logs", HEADS))


def read_logs(common_dir: bytes, branches: Iterable[bytes]) -> dict[bytes, Log]:
    """The logs of those of the `branches` that were ever renamed. 10,000 logs take about 50 ms the first time."""
    directories: dict[bytes, list[bytes]] = defaultdict(list)
    for branch in branches:
        directories[branch.rpartition(b"/")[0]].append(branch)
    top = os.path.join(common_dir, b"logs", HEADS)
    found: dict[bytes, Log] = {}
    for directory, names in directories.items():
        found |= _read_directory(top, directory, frozenset(names))
    return found


_memory: dict[bytes, tuple[int, frozenset[bytes], dict[bytes, Log]]] = {}
"""By directory of logs: when (ns) it changed last, the branches that were asked for, and what was found."""


def _read_directory(top: bytes, directory: bytes, branches: frozenset[bytes]) -> dict[bytes, Log]:
    """A rename moves a log, which changes the directory: what was read of one that is as it was is still so."""
    path = top + directory
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return {}
    known = _memory.get(path)
    if known is not None and known[0] == changed and branches <= known[1]:
        return {branch: log for branch, log in known[2].items() if branch in branches}
    found = {}
    for branch in branches:
        log = _read(top + branch)
        if _MESSAGE in log:
            found[branch] = _parse(log)
    if changed < time.time_ns() - SETTLED_NS:
        _memory[path] = changed, branches, found
    else:
        _memory.pop(path, None)
    return found


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a branch without a log; whether the repository can be read, its refs have told
        return b""
    try:
        pieces = [os.read(fd, _PIECE)]
        while len(pieces[-1]) == _PIECE:
            pieces.append(os.read(fd, _PIECE))
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(pieces)


def _parse(log: bytes) -> Log:
    moves = []
    second, run = -1, sha256()
    for line in log.split(b"\n"):
        at = _time(line.partition(b"\t")[0])
        if at != second:
            second, run = at, sha256()
        run.update(line + b"\n")
        _, message, names = line.partition(_MESSAGE)
        if message:
            old, _, new = names.partition(_TO)
            moves.append(Move(old, new, at, run.hexdigest()[:16]))
    return Log(_time(log.partition(b"\t")[0]), tuple(moves))


def _time(entry: bytes) -> int:
    """The seconds since 1970 in ``<old> <new> <name> <<email>> <seconds> <zone>``; 0 where there are none."""
    words = entry.rsplit(b" ", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdigit() and len(words[1]) <= _DIGITS else 0
