"""The files of one revision in their own directory, without a trace in the repository."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from provisioner.core.errors import ProvisionerError, UnreadableRepository
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
_LOOK_SECONDS = 0.1
_PIECE = 1 << 16
_LONGEST_ERROR = 2000  # bytes of what git says; it has a line for each file that it cannot write
_RAISE = "If it is to be checked out, raise the limit: provisioner app set --checkout-{0} N"


@dataclass(frozen=True, slots=True)
class CheckoutLimits:
    """The limits of a checkout: files, bytes, seconds, and bytes that must stay free on the disk. 0: no limit."""

    files: int
    size: int
    seconds: float
    keep_free: int = 0


class TooLarge(ProvisionerError):  # noqa: N818
    """A revision is beyond the limits of a checkout."""


class CheckoutStopped(ProvisionerError):  # noqa: N818
    """The checkout was given up, because its caller is to stop."""


def check_out(git_dir: bytes, revision: str, directory: str, limits: CheckoutLimits, stop: Callable[[], bool]) -> None:
    """Put the files of a revision into a directory, which is empty.

    It is not a git worktree: the index is in a directory beside it for the moment, and nothing is written to the repository.
    Raises UnreadableRepository, TooLarge, and Stopped once `stop` is true; then something may be in the directory.
    """
    over = time.monotonic() + limits.seconds if limits.seconds else None
    _must_fit(git_dir, revision, limits, stop)
    index = f"{directory}.index"
    words: list[str | bytes] = [f"--work-tree={directory}"]
    for setting in _SETTINGS:
        words += ["-c", setting]
    try:
        command: list[str | bytes] = [*words, "read-tree", "-u", "--reset", revision]
        with TemporaryFile() as errors, _git(git_dir, command, errors, directory, index) as running:
            _wait(running, revision, directory, limits, over, stop)
            errors.seek(0)
            said = os.fsdecode(errors.read(_LONGEST_ERROR)).strip().replace("\n", " ")
    finally:
        for left in (index, f"{index}.lock"):
            if os.path.exists(left):
                os.unlink(left)
    if running.returncode != 0:
        raise UnreadableRepository(f"git cannot check out {revision}: {said}", "Try git there by hand")


def _wait(
    running: subprocess.Popen[bytes],
    revision: str,
    directory: str,
    limits: CheckoutLimits,
    over: float | None,
    stop: Callable[[], bool],
) -> None:
    while running.poll() is None:
        try:
            if stop():
                raise CheckoutStopped(f"the checkout of {revision} was stopped")
            if over is not None and time.monotonic() > over:
                raise TooLarge(f"the checkout of {revision} took longer than {limits.seconds:g} s")
            if limits.keep_free and _free(directory) < limits.keep_free:
                raise TooLarge(f"the checkout of {revision} would fill the disk of {directory}", "Make room")
        except ProvisionerError:
            running.kill()
            raise
        with suppress(subprocess.TimeoutExpired):
            running.wait(_LOOK_SECONDS)


def _must_fit(git_dir: bytes, revision: str, limits: CheckoutLimits, stop: Callable[[], bool]) -> None:
    """Ask git for the files of a revision and their sizes before any of them is written."""
    if not limits.files and not limits.size:
        return
    files = size = 0
    rest = b""
    with _git(git_dir, ["ls-tree", "-r", "-l", "-z", "--full-tree", revision], subprocess.DEVNULL) as running:
        assert running.stdout is not None  # noqa: S101
        while piece := running.stdout.read1(_PIECE):  # type: ignore[attr-defined]
            *entries, rest = (rest + piece).split(b"\0")
            files += len(entries)
            size += sum(int(number) for entry in entries if (number := entry.split(maxsplit=4)[3]).isdigit())
            try:
                if stop():
                    raise CheckoutStopped(f"the checkout of {revision} was stopped")
                if limits.files and files > limits.files:
                    raise TooLarge(f"{revision} has more than {limits.files} files", _RAISE.format("files"))
                if limits.size and size > limits.size:
                    raise TooLarge(
                        f"the files of {revision} have more than {limits.size} bytes", _RAISE.format("bytes")
                    )
            except ProvisionerError:
                running.kill()
                raise


def _git(
    git_dir: bytes, words: Sequence[str | bytes], errors: IO[bytes] | int, cwd: str | None = None, index: str = ""
) -> subprocess.Popen[bytes]:
    environment = scrubbed_environment() | ({"GIT_INDEX_FILE": index} if index else {})
    try:
        return subprocess.Popen(
            ["git", b"--git-dir=" + git_dir, *words],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if index else subprocess.PIPE,
            stderr=errors,
        )
    except FileNotFoundError as error:
        raise UnreadableRepository("git is not installed", "Install git") from error


def _free(directory: str) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
