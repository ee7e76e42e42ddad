"""What the reflogs of branches say of renames and copies, in git's own words.

``git branch -m old new`` leaves in the log of ``new``, which it moved from ``old``, the message ``Branch: renamed
refs/heads/old to refs/heads/new``; ``-c`` leaves ``copied`` in a copy of the log. libgit2 writes ``branch: renamed``, JGit
the names without ``refs/heads/``. Times are not read: they are in whole seconds, on a clock that may be wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git
from provisioner.git.worktree import HEADS, LOGS

_MESSAGE = re.compile(rb"\t[Bb]ranch: (renamed|copied) (?:refs/heads/)?([^ ]+) to (?:refs/heads/)?([^ ]+)$")
_CREATION = re.compile(rb"0{40,64} ")
_CREATIONS = (b"branch: Created from", b"commit (initial)", b"push", b"fetch", b"clone:")
_FORMAT = "--format=%gD%x00%H %gn <%ge> %x00%gs"
DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class LoggedRename:
    """A branch got another name, or was copied, at this line of its log. `mark`: how older registries know it again."""

    line: int
    old: bytes
    new: bytes
    copied: bool
    mark: str


@dataclass(frozen=True)
class BranchLog:
    """A branch's log, first line first. `begins`: its first line is the creation of a branch, so that nothing is missing."""

    lines: tuple[bytes, ...]
    begins: bool
    moves: tuple[LoggedRename, ...] = field(repr=False)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """For each line a digest of it and all lines before it."""
        run = sha256()
        found = []
        for line in self.lines:
            run.update(line + b"\n")
            found.append(run.hexdigest()[:DIGEST_DIGITS])
        return tuple(found)

    @property
    def digest(self) -> str:
        """Of the whole log; empty if it has no lines."""
        return self.digests[-1] if self.lines else ""


def keeps_logs(common_dir: bytes) -> bool:
    """Does the repository keep reflogs of branches? A bare one does only if it is configured to."""
    return in_reftable(common_dir) or os.path.isdir(os.path.join(common_dir, LOGS, HEADS))


def in_reftable(common_dir: bytes) -> bool:
    return os.path.isdir(os.path.join(common_dir, b"reftable"))


def read_log(common_dir: bytes, branch: bytes) -> BranchLog:
    """The log of a branch; empty if it has none."""
    if in_reftable(common_dir):
        return _logs_of_git(common_dir, HEADS + branch, b"--").get(branch, parse(b""))
    return parse(read_file(os.path.join(common_dir, LOGS, HEADS + branch)))


def read_logs(common_dir: bytes, branches: Iterable[bytes]) -> dict[bytes, BranchLog]:
    """The logs of those of the `branches` that have one."""
    if in_reftable(common_dir):
        wanted = set(branches)
        return {
            name: log for name, log in _logs_of_git(common_dir, b"--glob=" + HEADS + b"*").items() if name in wanted
        }
    top = os.path.join(common_dir, LOGS, HEADS)
    return {name: parse(read_file(top + name)) for name in branches if os.path.isfile(top + name)}


def read_file(path: bytes) -> bytes:
    """What a log or an anchor holds; nothing if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def parse(text: bytes) -> BranchLog:
    """A log as git's files have it: ``<old> <new> <name> <<email>> <seconds> <zone>\\t<message>`` a line."""
    # what git rewrites has a tab also where there is no message
    lines = tuple(line.rstrip(b"\t") for line in text.split(b"\n")[:-1])
    return BranchLog(lines, bool(lines) and _CREATION.match(lines[0]) is not None, _moves(lines))


def _moves(lines: tuple[bytes, ...]) -> tuple[LoggedRename, ...]:
    found = [(number, match) for number, line in enumerate(lines) if (match := _MESSAGE.search(line))]
    if not found:
        return ()
    marks = _marks(lines)
    return tuple(
        LoggedRename(number, match[2], match[3], match[1] == b"copied", marks[number]) for number, match in found
    )


def _marks(lines: tuple[bytes, ...]) -> list[str]:
    """How registries before version 13 know lines again: each with all that stand before it from the same second."""
    marks = []
    second, run = b"-", sha256()
    for line in lines:
        words = line.partition(b"\t")[0].rsplit(b" ", 2)
        at = words[1] if len(words) == 3 and words[1].isdigit() else b"0"
        if at != second:
            second, run = at, sha256()
        run.update(line + b"\n")
        marks.append(run.hexdigest()[:DIGEST_DIGITS])
    return marks


def _logs_of_git(common_dir: bytes, *revisions: bytes) -> dict[bytes, BranchLog]:
    """The logs of the branches that match, from git itself: a reftable has no files of logs. One git process."""
    try:
        listing = git(common_dir, "log", "-g", "--date=raw", _FORMAT, *revisions)
    except UnreadableRepository:  # a log without an entry
        return {}
    lines: dict[bytes, list[bytes]] = {}
    for entry in listing.split(b"\n"):
        name, _, rest = entry.partition(b"\0")
        ref, _, date = name.partition(b"@{")
        who, _, message = rest.partition(b"\0")
        if ref.startswith(HEADS):
            lines.setdefault(ref.removeprefix(HEADS), []).append(who + date.removesuffix(b"}") + b"\t" + message)
    return {name: _of_lines(found[::-1]) for name, found in lines.items()}


def _of_lines(lines: list[bytes]) -> BranchLog:
    """The log as a file would have it, which also says what a ref was at before: what the line before says."""
    begins = lines[0].partition(b"\t")[2].startswith(_CREATIONS)
    old = b"0" * len(lines[0].partition(b" ")[0])
    whole = []
    for line in lines:
        whole.append((old + b" " + line).rstrip(b"\t"))
        old = line.partition(b" ")[0]
    return BranchLog(tuple(whole), begins, _moves(tuple(whole)))


# what a log shows of names


def last_name(log: BranchLog, name: bytes) -> bytes:
    """What a branch that was called `name` is called at the end of its log."""
    return log.moves[-1].new if log.moves else name


def goes_on(log: BranchLog, known: BranchLog, name: bytes, end: bytes) -> int:
    """The last line of a log that is also one of a `known` log which it continues; -1 if it does not.

    git may have dropped lines of the known log, and nothing else: its remaining lines come first, and in its order. It is the
    log of a branch that was called `name` at the end; renames lead from there to the name `end` without a gap.
    """
    places: list[int] = []
    for line in log.lines:
        try:
            places.append(known.lines.index(line, places[-1] + 1 if places else 0))
        except ValueError:
            break
    called = _names_by_line(known, name)
    return _led_to(log, end, lambda line, then: line < len(places) and called[places[line]] == then)


def goes_on_from(log: BranchLog, digest: str, name: bytes, end: bytes) -> int:
    """The same if only the digest of the known log is known, which must match."""
    return _led_to(log, end, lambda line, then: log.digests[line] == digest and then == name)


def _led_to(log: BranchLog, end: bytes, known: Callable[[int, bytes], bool]) -> int:
    """The last line that is `known` with the name that its branch had then, if renames lead from there to the name `end`."""
    moves = {move.line: move for move in log.moves}
    name = end
    for line in range(len(log.lines) - 1, -1, -1):
        if known(line, name):
            return line
        move = moves.get(line)
        if move is not None:
            if move.copied or move.new != name:
                return -1
            name = move.old
    return -1


def _names_by_line(log: BranchLog, name: bytes) -> list[bytes | None]:
    """What a branch called `name` at the end of its log was called after each line; None if that is from another's log."""
    moves = {move.line: move for move in log.moves}
    now: bytes | None = name
    if log.moves:
        now = None if log.moves[0].copied else log.moves[0].old
    found: list[bytes | None] = []
    for line in range(len(log.lines)):
        now = moves[line].new if line in moves else now
        found.append(now)
    return found


def is_copy(log: BranchLog, end: bytes) -> bool:
    """Did a branch called `end` at the end of its log start as a copy of another one?"""
    name = end
    for move in reversed(log.moves):
        if move.new != name or move.copied:
            return move.copied and move.new == name
        name = move.old
    return False


def names(log: BranchLog, end: bytes, after: int, seen: Collection[str]) -> list[bytes]:
    """The names that a branch called `end` had since the line `after`, last to first, by renames that are not `seen`."""
    found = [end]
    for move in reversed(log.moves):
        if move.line <= after or move.mark in seen or move.copied or move.new != found[-1]:
            break
        found.append(move.old)
    return found


Logs = Mapping[bytes, BranchLog]
