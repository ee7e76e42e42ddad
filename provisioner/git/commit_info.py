"""What people say of a commit: its subject, who wrote it, and whether it asks not to be deployed."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git

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
    try:
        said = git(git_dir, "log", "-1", "--no-show-signature", "--format=%an%x00%ct%x00%s%x00%B", revision, "--")
    except UnreadableRepository:
        return None
    author, _, rest = said.decode("utf-8", "replace").partition("\0")
    seconds, _, rest = rest.partition("\0")
    subject, _, message = rest.partition("\0")
    low = message.lower()
    return CommitInfo(subject, author, int(seconds) * 1000, any(word in low for word in SKIP))
