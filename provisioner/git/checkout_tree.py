"""The files of one revision in a directory of their own, without a trace in the repository."""

from __future__ import annotations

import os
import subprocess

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import scrubbed_environment

# What a repository's settings must not add: other files than the revision's, or files in the repository.
_SETTINGS = (
    "core.bare=false",
    "core.fsmonitor=false",
    "core.sparseCheckout=false",
    "core.splitIndex=false",
    "core.untrackedCache=false",
    "submodule.recurse=false",
)


def check_out(git_dir: bytes, revision: str, directory: str) -> None:
    """Put the files of a revision into a directory, which is empty. Raises `UnreadableRepository`.

    No worktree of git's: the index lies in a directory beside for the moment, and nothing is written to the repository.
    """
    index = f"{directory}.index"
    words: list[str | bytes] = ["git", b"--git-dir=" + git_dir, f"--work-tree={directory}"]
    for setting in _SETTINGS:
        words += ["-c", setting]
    words += ["read-tree", "-u", "--reset", revision]
    try:
        done = subprocess.run(
            words,
            env={**scrubbed_environment(), "GIT_INDEX_FILE": index},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except FileNotFoundError as error:
        raise UnreadableRepository("git is not installed", "Install git") from error
    finally:
        for left in (index, f"{index}.lock"):
            if os.path.exists(left):
                os.unlink(left)
    if done.returncode != 0:
        said = os.fsdecode(done.stderr).strip().replace("\n", " ")
        raise UnreadableRepository(f"git cannot check out {revision}: {said}", "Try git there by hand")
