"""From which branch a branch was made: its reflog's word, else the history that it shares with others."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import NamedTuple, Protocol

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git
from provisioner.git.worktree import HEADS

_CREATED = b"branch: Created from "
_MOVING, _TO = b"checkout: moving from ", b" to "
_REMOTE = b"origin/"


class _Entry(NamedTuple):
    """A line of a reflog: `at` in seconds since 1970, `commit` what the ref was then at, as hex."""

    commit: bytes
    at: int
    message: bytes


class Candidates(Protocol):
    """The branches that another one may have been created from."""

    def among(self, names: Collection[bytes]) -> set[bytes]:
        """Those with one of these `names`."""
        ...

    def all(self) -> set[bytes]: ...


def parent(common_dir: bytes, branch: bytes, candidates: Candidates, production: bytes) -> bytes | None:
    """The branch that `branch` was created from, one of the `candidates`; None if that is unknown.

    All of them are read only if its reflog does not name one.

    A bare repository keeps no reflogs, and neither does one of reftables: there it is the branch that has the commit at
    which `branch` began, where that is one alone, or production among others.
    """
    said = _by_reflog(common_dir, branch) - {branch}
    possible = candidates.among(said) if said else set()
    if len(possible) == 1:
        return possible.pop()
    try:
        found = _by_history(common_dir, branch, candidates.all() - {branch})
    except UnreadableRepository:  # a branch without commits, or a history that was cut off
        return None
    if possible:
        found &= possible
    elif production in found:
        return production
    return found.pop() if len(found) == 1 else None


def _by_reflog(common_dir: bytes, branch: bytes) -> set[bytes]:
    """The branches that it may have been made from; none where the log does not say."""
    entries = _log(os.path.join(common_dir, b"logs", HEADS + branch))
    if not entries or not entries[0].message.startswith(_CREATED):
        return set()
    source = entries[0].message.removeprefix(_CREATED)
    if source == b"HEAD":
        return _at_head(common_dir, branch, entries[0])
    return {source.removeprefix(HEADS).removeprefix(b"refs/remotes/").removeprefix(_REMOTE)}


def _at_head(common_dir: bytes, branch: bytes, created: _Entry) -> set[bytes]:
    """What was checked out when a branch was created from there: in the worktree that went over to it, else in the
    main one. Logs know seconds: what was checked out within that second is possible too."""
    logs = [os.path.join(common_dir, b"logs", b"HEAD")]
    worktrees = os.path.join(common_dir, b"worktrees")
    if os.path.isdir(worktrees):
        logs += [os.path.join(worktrees, name, b"logs", b"HEAD") for name in sorted(os.listdir(worktrees))]
    for log in logs:
        for entry in _log(log):
            old, new = _move(entry)
            if new == branch and entry.at in (created.at, created.at + 1) and entry.commit == created.commit:
                return {old}
    before = b""
    within: set[bytes] = set()
    moves = [(entry.at, *_move(entry)) for entry in _log(logs[0]) if _move(entry)[0]]
    for at, old, new in moves:
        before = before or old
        if at < created.at:
            before = new
        elif at == created.at:
            within.add(new)
    return {before or _head(common_dir), *within} - {b""}


def _head(common_dir: bytes) -> bytes:
    try:
        with open(os.path.join(common_dir, b"HEAD"), "rb") as file:
            head = file.read().strip()
    except OSError:
        return b""
    return head.removeprefix(b"ref: " + HEADS) if head.startswith(b"ref: " + HEADS) else b""


def _move(entry: _Entry) -> tuple[bytes, bytes]:
    """From what to what HEAD went; empty where this is about something else. Neither holds a space."""
    if not entry.message.startswith(_MOVING):
        return b"", b""
    old, _, new = entry.message.removeprefix(_MOVING).partition(_TO)
    return old, new


def _log(path: bytes) -> list[_Entry]:
    """``<old> <new> <name> <<email>> <seconds> <zone>\\t<message>``; empty where there is no log."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return []
    entries = []
    for line in lines:
        head, tab, message = line.partition(b"\t")
        words = head.split(b" ")
        if tab and len(words) > 3 and words[-2].isdigit():
            entries.append(_Entry(words[1], int(words[-2]), message))
    return entries


def _by_history(common_dir: bytes, branch: bytes, others: set[bytes]) -> set[bytes]:
    """The others that have the commit at which `branch` left all of them. Raises UnreadableRepository."""
    if not others:
        return set()
    revisions = b"".join(line + b"\n" for line in (HEADS + branch, *(b"^" + HEADS + name for name in sorted(others))))
    own = git(common_dir, "rev-list", "--topo-order", "--parents", "--stdin", stdin=revisions).split(b"\n")
    commits = [line.split(b" ") for line in own if line]
    if commits and len(commits[-1]) == 1:  # a separate history
        return set()
    begun = commits[-1][1] if commits else HEADS + branch
    containing = git(common_dir, "for-each-ref", "--format=%(refname)", b"--contains=" + begun, "refs/heads/")
    return {line.removeprefix(HEADS) for line in containing.split(b"\n")} & others
