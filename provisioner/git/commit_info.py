"""What people say of a commit: its subject, who wrote it, and whether it asks not to be deployed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git

_ID: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_END: Final = "\0\0\n"  # no commit's text has a NUL
_FORMAT: Final = "%H%x00%an%x00%ct%x00%s%x00%B%x00%x00"
SKIP = ("[skip ci]", "[ci skip]", "[skip deploy]", "[deploy skip]")


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """``at`` is when it was committed, in milliseconds since 1970."""

    subject: str
    author: str
    at: int
    skips_deployment: bool


def commit_info(git_dir: bytes, revision: str) -> CommitInfo | None:
    """A commit's message, author, and time; None if the repository does not have the commit, or no longer has it."""
    return commit_infos(git_dir, [revision]).get(revision)


def commit_infos(git_dir: bytes, revisions: Iterable[str]) -> dict[str, CommitInfo]:
    """Those of several commits, by their full ids, in one call of git. What the repository does not have is left out."""
    wanted = sorted({each for each in revisions if _ID.fullmatch(each)})
    if not wanted:
        return {}
    options = ("--no-walk=unsorted", "--ignore-missing", "--no-show-signature", f"--format={_FORMAT}", "--stdin")
    try:
        said = git(git_dir, "log", *options, stdin="\n".join(wanted).encode())
    except UnreadableRepository:
        return {}
    return dict(_parsed(entry) for entry in said.decode("utf-8", "replace").split(_END) if entry.strip())


def _parsed(entry: str) -> tuple[str, CommitInfo]:
    revision, author, seconds, subject, message = entry.lstrip("\n").split("\0", 4)
    low = message.lower()
    return revision, CommitInfo(subject, author, int(seconds) * 1000, any(word in low for word in SKIP))
