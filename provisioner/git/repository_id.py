"""Which apps a repository is: the file ``provisioner/app`` in its common directory, which goes along wherever it is moved.

The first line is the id of the app that the hooks wake, empty if no hooks are installed; the other lines are the ids of all
apps that are registered with the repository, one for each home. Light: `provisioner exec` reads it on every start.
"""

from __future__ import annotations

import os

from provisioner.core.errors import WrongRepository

DIRECTORY = b"provisioner"
_FILE = DIRECTORY + b"/app"
_LONGEST = 4096


def app_ids(common_dir: bytes) -> list[str]:
    """The ids of the apps that the repository says it is; none if it does not say."""
    return [line for line in _lines(common_dir) if line]


def hooks_app(common_dir: bytes) -> str:
    """The id of the app that the hooks wake; empty if none are installed."""
    return _lines(common_dir)[0]


def claim(common_dir: bytes, app_id: str) -> None:
    """Let the repository say that it is this app, too. Raises OSError."""
    lines = _lines(common_dir)
    if app_id not in lines[1:]:
        _write(common_dir, [*lines, app_id])


def claim_for_hooks(common_dir: bytes, app_id: str) -> None:
    """The same, and let the hooks wake it. Raises OSError."""
    _write(common_dir, [app_id, *(line for line in _lines(common_dir)[1:] if line != app_id), app_id])


def release_from_hooks(common_dir: bytes) -> None:
    """The hooks no longer wake an app. Raises OSError."""
    first, *others = _lines(common_dir)
    if first:
        _write(common_dir, ["", *(others if first in others else [*others, first])])


def release(common_dir: bytes, app_id: str) -> None:
    """The repository is this app no longer. Raises OSError."""
    first, *others = _lines(common_dir)
    if app_id in (first, *others):
        _write(common_dir, ["" if first == app_id else first, *(line for line in others if line != app_id)])


def found_elsewhere(app_id: str, slug: str, git_dir: bytes, here: bytes) -> WrongRepository:
    """What is the matter with a repository `here` that says it is an app which is registered with one in `git_dir`."""
    there, place = os.fsdecode(git_dir), os.fsdecode(here)
    if app_id in app_ids(git_dir):
        return WrongRepository(
            f"{place} is a copy of the repository of app {slug!r} in {there}",
            "Register the copy as a separate app: provisioner init",
        )
    return WrongRepository(
        f"the repository of app {slug!r} has moved from {there} to {place}",
        f"Run: provisioner app set {slug} --repository {place}",
    )


def _lines(common_dir: bytes) -> list[str]:
    try:
        with open(os.path.join(common_dir, _FILE), "rb") as file:
            lines = file.read(_LONGEST).decode("ascii", "replace").split("\n")
    except OSError:
        return [""]
    return [line.strip() for line in lines[:1]] + [line.strip() for line in lines[1:] if line.strip()]


def _write(common_dir: bytes, lines: list[str]) -> None:
    from provisioner.system.atomic_file import replace_file

    path = os.fsdecode(os.path.join(common_dir, _FILE))
    if any(lines):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, "".join(f"{line}\n" for line in lines).encode("ascii"), 0o644)
        return
    if os.path.exists(path):
        os.unlink(path)
    if os.path.isdir(os.path.dirname(path)) and not os.listdir(os.path.dirname(path)):
        os.rmdir(os.path.dirname(path))
