"""Running git on one repository, whatever repository the caller's environment speaks of."""

from __future__ import annotations

import os
import subprocess

from provisioner.core.errors import UnreadableRepository
from provisioner.system.home import without_git


def scrubbed_environment() -> dict[str, str]:
    """The process's environment without what git sets for its hooks, in English.

    Everything that starts with ``GIT_`` is removed, except for variables that control git's behavior, not its paths.
    """
    kept = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH", "GIT_TRACE")
    return {**without_git(*kept), "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def git(git_dir: bytes, *arguments: str | bytes, cwd: bytes | None = None, stdin: bytes = b"") -> bytes:
    """What ``git`` prints. Raises `UnreadableRepository` with git's own words where it fails."""
    command = [b"git", b"--git-dir=" + git_dir, *(os.fsencode(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command, env=scrubbed_environment(), capture_output=True, check=True, cwd=cwd, input=stdin
        )
    except FileNotFoundError as error:
        raise UnreadableRepository("git is not installed", "Install git") from error
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip().replace("\n", " ") or f"exit code {error.returncode}"
        raise UnreadableRepository(
            f"git cannot read {os.fsdecode(git_dir)}: {said}", "Try git there by hand"
        ) from error
    return done.stdout


def config_value(git_dir: bytes, key: str) -> str:
    """A setting of git's that is in force for the repository; empty where there is none."""
    try:
        return os.fsdecode(git(git_dir, "config", "--get", key)).removesuffix("\n")
    except UnreadableRepository:
        return ""


def must_be_trusted(directory: bytes) -> None:
    """Raise `UnreadableRepository` if git would not work in this directory because another user owns it.

    Its configuration determines hooks and the programs that git starts. For git, ``--git-dir``, which all reading here
    uses, is a sign of trust, so this calls it once without.
    """
    try:
        done = subprocess.run(
            [b"git", b"-C", directory, b"rev-parse", b"--git-dir"], env=scrubbed_environment(), capture_output=True
        )
    except FileNotFoundError as error:
        raise UnreadableRepository("git is not installed", "Install git") from error
    if b"dubious ownership" in done.stderr:
        where = os.fsdecode(directory)
        raise UnreadableRepository(
            f"{where} belongs to another user, whose settings git would follow",
            f"Run this as its owner, or trust it: git config --global --add safe.directory {where}",
        )
