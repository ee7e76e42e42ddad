"""Installing, finding and removing the hooks. Only one file per hook name exists, and it may be another program's.

A hook that is a shell script keeps its file, its ``$0``, arguments and standard input: provisioner's block goes in after
its first line (husky and others find their parts by ``$0``, so it cannot be moved). Any other hook is moved aside and
started by ours. Both are undone byte for byte.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import AppId
from provisioner.git import repository_id
from provisioner.git.command import config_value, git
from provisioner.git.hook_scripts import BEGIN, END, KEPT, HooksRefused, guest_script, own_script, quoted, unquoted
from provisioner.git.refs import is_bare, is_mirror
from provisioner.system.atomic_file import replace_file, sync_path
from provisioner.system.installation import passing

SAID = repository_id.DIRECTORY + b"/said-gone"  # that the installation is gone; hooks/say-gone.sh
SHELLS = (b"sh", b"bash", b"dash", b"ksh", b"zsh", b"ash")
EXECUTABLE = 0o755

LOCAL = ("post-checkout", "reference-transaction")
RECEIVING = ("post-receive",)


class HookState(StrEnum):
    INSTALLED = "installed"
    MISSING = "missing"
    FOREIGN = "not installed: another hook is there"
    OTHER_HOME = "installed for another home"
    NOT_EXECUTABLE = "installed but not executable"
    ORPHANED = "installed by a provisioner that is no longer there"
    PASSING = "installed by a provisioner in a place that may be deleted at any time"


@dataclass(frozen=True, slots=True)
class HookStatus:
    name: str
    path: str
    state: HookState
    kept: bool


def wanted_hooks(common_dir: bytes) -> tuple[str, ...]:
    """Which hooks a repository gets, by what they cost there.

    ``reference-transaction`` runs several times for every ref of a push, so it is never put where people push to. A
    mirror is changed by ``git fetch``, which runs nothing else.
    """
    if is_mirror(common_dir):
        return ("reference-transaction", *RECEIVING)
    if is_bare(common_dir):
        return RECEIVING
    if config_value(common_dir, "receive.denyCurrentBranch") in ("updateInstead", "ignore", "warn"):
        return ("post-checkout", *RECEIVING)
    return LOCAL


def hooks_directory(common_dir: bytes, top: bytes | None) -> bytes:
    """The directory of the repository's hooks: ``core.hooksPath``, else ``hooks`` in the common directory."""
    start = top or common_dir
    path = git(common_dir, "rev-parse", "--git-path", "hooks", cwd=start).removesuffix(b"\n")
    return os.path.normpath(os.path.join(start, path))


def install(common_dir: bytes, top: bytes | None, app_id: AppId, home: str) -> list[HookStatus]:
    """Install the hooks the repository wants; those that are there already are brought up to date."""
    must_stay(sys.prefix)
    directory = hooks_directory(common_dir, top)
    try:
        if os.path.lexists(directory) and not os.path.isdir(directory):
            raise HooksRefused(
                f"core.hooksPath is {os.fsdecode(directory)}, which is not a directory: hooks are switched off here",
                "Use 'provisioner watch', or unset core.hooksPath",
            )
        os.makedirs(directory, exist_ok=True)
        for name in wanted_hooks(common_dir):
            _install_one(os.path.join(directory, name.encode()), name, home)
        repository_id.claim_for_hooks(common_dir, app_id)
        _forget_said(common_dir)
    except OSError as error:
        raise HooksRefused(
            f"cannot install hooks in {os.fsdecode(directory)}: {error.strerror}",
            "Give this user write access to it, or use 'provisioner watch', which needs no hooks",
        ) from error
    return status(common_dir, top, home)


def uninstall(common_dir: bytes, top: bytes | None, home: str, *, shared: bool) -> None:
    """Remove the home's hooks and restore the previous ones. `shared`: another app still uses the hooks directory.

    Those of another home stay, with what tells them which app the repository is.
    """
    directory = hooks_directory(common_dir, top)
    paths = [os.path.join(directory, name.encode()) for name in (*LOCAL, *RECEIVING)]
    own = [path for path in paths if _state(path, home) is not HookState.OTHER_HOME]
    if own == paths:
        repository_id.release_from_hooks(common_dir)
        _forget_said(common_dir)
    for path in own if not shared else []:
        _uninstall_one(path)


def move_home(common_dir: bytes, top: bytes | None, app_id: AppId, old: str, new: str) -> bool:
    """Hooks that were installed for the home when it was at `old` are for it at `new` from here on; False without any."""
    directory = hooks_directory(common_dir, top)
    must_stay(sys.prefix)
    found = [path for name in wanted_hooks(common_dir) if _is_of(path := os.path.join(directory, name.encode()), old)]
    for path in found:
        _uninstall_one(path)
    if found:
        install(common_dir, top, app_id, new)
    return bool(found)


def _is_of(path: bytes, home: str) -> bool:
    """Is it installed for the home that is, or was, at this path?"""
    if not os.path.lexists(path):
        return False
    with open(path, "rb") as file:
        text = file.read()
    return BEGIN in text and os.path.realpath(os.fsdecode(unquoted(text, b"provisioner_home="))) == home


def status(common_dir: bytes, top: bytes | None, home: str) -> list[HookStatus]:
    """What stands where the wanted hooks should."""
    directory = hooks_directory(common_dir, top)
    found = []
    for name in wanted_hooks(common_dir):
        path = os.path.join(directory, name.encode())
        found.append(HookStatus(name, os.fsdecode(path), _state(path, home), os.path.lexists(path + KEPT)))
    return found


def _forget_said(common_dir: bytes) -> None:
    """A hook whose installation is gone says so again, and not only a day after it has last said so."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(common_dir, SAID))


def must_stay(prefix: str) -> None:
    """Raises HooksRefused if the installation in this directory may go at any time: its hooks would do nothing then."""
    if where := passing(prefix):
        raise HooksRefused(
            f"no hooks are installed: provisioner runs from {where} ({prefix}), and with that they would stop working",
            "Install it (uv tool install timeline-provisioner, or pipx install), then run: provisioner hooks install",
        )


def within(prefix: str, top: bytes | None) -> str:
    """What to tell a user whose installation is in the worktree, which may be removed with it; empty for any other."""
    if top is None or not os.path.realpath(prefix).startswith(os.path.realpath(os.fsdecode(top)) + "/"):
        return ""
    return (
        f"the hooks run {prefix}, which is in this worktree: if it is removed, they say so and do nothing. A separate"
        " installation stays: uv tool install timeline-provisioner"
    )


def _state(path: bytes, home: str) -> HookState:
    if not os.path.lexists(path):
        return HookState.MISSING
    with open(path, "rb") as file:
        text = file.read()
    if BEGIN not in text:
        return HookState.FOREIGN
    if b"provisioner_home=" + quoted(home) + b"\n" not in text:
        return HookState.OTHER_HOME
    if not all(os.path.exists(unquoted(text, name)) for name in (b"provisioner_python=", b"provisioner_handover=")):
        return HookState.ORPHANED
    if passing(os.fsdecode(os.path.dirname(unquoted(text, b"provisioner_python=")))):
        return HookState.PASSING
    return HookState.INSTALLED if os.access(path, os.X_OK) else HookState.NOT_EXECUTABLE


def _install_one(path: bytes, name: str, home: str) -> None:
    if os.path.lexists(path):
        if _state(path, home) is HookState.OTHER_HOME:
            raise HooksRefused(
                f"{os.fsdecode(path)} is installed for another home", "Run 'provisioner hooks uninstall' with that home"
            )
        if _is_ours(path):
            _uninstall_one(path)
    if not os.path.lexists(path):
        _write(path, own_script(name, home, kept=False), EXECUTABLE)
    elif _takes_a_block(path):
        with open(path, "rb") as file:
            first, _, rest = file.read().partition(b"\n")
        block = BEGIN + guest_script(name, home) + END
        _write(path, first + b"\n" + block + rest, stat.S_IMODE(os.stat(path).st_mode))
    else:
        if os.path.lexists(path + KEPT):
            raise HooksRefused(
                f"{os.fsdecode(path + KEPT)} is in the way of keeping the hook that is there", "Move it somewhere else"
            )
        os.link(path, path + KEPT, follow_symlinks=False)  # the hook stays in its place until ours takes it
        _write(path, own_script(name, home, kept=True), EXECUTABLE)


def _uninstall_one(path: bytes) -> None:
    if not os.path.lexists(path) or not _is_ours(path):
        return
    if os.path.lexists(path + KEPT):
        os.rename(path + KEPT, path)
        sync_path(os.fsdecode(os.path.dirname(path)))
        return
    with open(path, "rb") as file:
        before, _, rest = file.read().partition(BEGIN)
    after = rest.partition(END)[2]
    if before == b"#!/bin/sh\n" and not after:
        os.unlink(path)
    else:
        _write(path, before + after, stat.S_IMODE(os.stat(path).st_mode))


def _is_ours(path: bytes) -> bool:
    with open(path, "rb") as file:
        return BEGIN in file.read()


def _takes_a_block(path: bytes) -> bool:
    """Whether it is an executable shell script itself, so that a block after its first line runs first."""
    if os.path.islink(path) or not os.access(path, os.X_OK):
        return False
    with open(path, "rb") as file:
        first, newline, _ = file.read().partition(b"\n")
    if not newline or not first.startswith(b"#!") or first.endswith(b"\r"):
        return False
    words = first[2:].split()
    interpreter = [os.path.basename(word) for word in words if not word.startswith(b"-")]
    return bool(interpreter) and interpreter[-1] in SHELLS


def _write(path: bytes, text: bytes, mode: int) -> None:
    replace_file(os.fsdecode(path), text, mode)
