"""What git does with a file of a checkout: tracks it, ignores it, or neither."""

from __future__ import annotations

import os

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git
from provisioner.git.worktree import Checkout


def is_tracked(checkout: Checkout, relative: str) -> bool:
    """Is the file at this path below the top in the index? Raises UnreadableRepository."""
    return bool(_listed(checkout, relative, "--cached"))


def is_ignored(checkout: Checkout, relative: str) -> bool:
    """Would `git add` pass over the file, which exists and is not tracked? Raises UnreadableRepository."""
    return not _listed(checkout, relative, "--others", "--exclude-standard")


def would_ignore(checkout: Checkout, relative: bytes) -> bool:
    """Would git ignore a new file at this path below the top?"""
    try:
        git(checkout.git_dir, b"--work-tree=" + (checkout.top or b""), "check-ignore", "-q", relative, cwd=checkout.top)
    except UnreadableRepository:  # exit code 1: it would not
        return False
    return True


def _listed(checkout: Checkout, relative: str, *which: str) -> bytes:
    pathspec = b":(top,literal)" + os.fsencode(relative)
    worktree = b"--work-tree=" + (checkout.top or b"")
    return git(checkout.git_dir, worktree, "ls-files", "-z", *which, "--", pathspec, cwd=checkout.top)
