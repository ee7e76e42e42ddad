"""What people say of a commit: its subject, who wrote it, and whether it asks not to be deployed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git

_ID: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_FIELDS: Final = ("%H", "%an", "%ct", "%s", "%B")  # no commit's text has a NUL, and any field can be empty
_FORMAT: Final = "".join(f"{each}%x00" for each in _FIELDS)
SKIP = ("[skip ci]", "[ci skip]", "[skip deploy]", "[deploy skip]")


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """``at`` is when it was committed, in milliseconds since 1970; 0 if the commit has no readable time."""

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
    words = said.decode("utf-8", "replace").split("\0")
    entries = zip(*(iter(words),) * len(_FIELDS), strict=False)
    return dict(_parsed(*entry) for entry in entries)


def _parsed(revision: str, author: str, seconds: str, subject: str, message: str) -> tuple[str, CommitInfo]:
    low = message.lower()
    at = int(seconds) * 1000 if re.fullmatch("[0-9]{1,11}", seconds) else 0  # until the year 5138
    return revision.lstrip("\n"), CommitInfo(subject, author, at, any(word in low for word in SKIP))
