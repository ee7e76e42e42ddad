"""Installing, finding and removing the hooks. Only one file per hook name exists, and it may be somebody else's.

A hook that is a shell script keeps its file, its ``$0``, arguments and standard input: a block of ours goes in behind
its first line (husky and others find their parts by ``$0``, so it cannot be moved). Any other hook is moved aside and
started by ours. Both are undone byte for byte.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.errors import ProvisionerError
from provisioner.git.command import config_value, git
from provisioner.git.refs import is_bare, is_mirror
from provisioner.system.atomic_file import replace_file, sync_path

BEGIN = b"# >>> provisioner >>> written by 'provisioner hooks install', removed by 'provisioner hooks uninstall'\n"
END = b"# <<< provisioner <<<\n"
KEPT = b".before-provisioner"
MARKER = b"provisioner"
SHELLS = (b"sh", b"bash", b"dash", b"ksh", b"zsh", b"ash")
EXECUTABLE = 0o755

LOCAL = ("post-checkout", "reference-transaction")
RECEIVING = ("post-receive",)


class State(StrEnum):
    INSTALLED = "installed"
    MISSING = "missing"
    FOREIGN = "not installed: another hook is there"
    OTHER_HOME = "installed for another home"
    NOT_EXECUTABLE = "installed but not executable"
    ORPHANED = "installed by a provisioner that is no longer there"


@dataclass(frozen=True, slots=True)
class HookStatus:
    name: str
    path: str
    state: State
    kept: bool


class HooksRefused(ProvisionerError):  # noqa: N818
    """The hooks cannot be installed where git looks for them."""


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
    """Where git looks for the repository's hooks: ``core.hooksPath``, else ``hooks`` in the common directory."""
    start = top or common_dir
    path = git(common_dir, "rev-parse", "--git-path", "hooks", cwd=start).removesuffix(b"\n")
    return os.path.normpath(os.path.join(start, path))


def install(common_dir: bytes, top: bytes | None, app_id: str, home: str) -> list[HookStatus]:
    """Install the hooks the repository wants; those that are there already are brought up to date."""
    directory = hooks_directory(common_dir, top)
    try:
        if os.path.lexists(directory) and not os.path.isdir(directory):
            raise HooksRefused(
                f"core.hooksPath is {os.fsdecode(directory)}, which is no directory: hooks are switched off here",
                "Use 'provisioner watch', or unset core.hooksPath",
            )
        os.makedirs(directory, exist_ok=True)
        for name in wanted_hooks(common_dir):
            _install_one(os.path.join(directory, name.encode()), name, home)
        write_marker(common_dir, app_id)
    except OSError as error:
        raise HooksRefused(
            f"cannot install hooks in {os.fsdecode(directory)}: {error.strerror}",
            "Let this user write there, or use 'provisioner watch', which needs no hooks",
        ) from error
    return status(common_dir, top, home)


def uninstall(common_dir: bytes, top: bytes | None, home: str, *, shared: bool) -> None:
    """Take the home's hooks out and put back what was there. `shared`: another app still uses the hooks directory.

    Those of another home stay, with what tells them which app the repository is.
    """
    directory = hooks_directory(common_dir, top)
    paths = [os.path.join(directory, name.encode()) for name in (*LOCAL, *RECEIVING)]
    own = [path for path in paths if _state(path, home) is not State.OTHER_HOME]
    if own == paths:
        _remove_marker(common_dir)
    for path in own if not shared else []:
        _uninstall_one(path)


def move_home(common_dir: bytes, top: bytes | None, app_id: str, old: str, new: str) -> bool:
    """Hooks that were installed for the home when it was at `old` are for it at `new` from here on; False without any."""
    directory = hooks_directory(common_dir, top)
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
    return BEGIN in text and os.path.realpath(os.fsdecode(_unquoted(text, b"provisioner_home="))) == home


def status(common_dir: bytes, top: bytes | None, home: str) -> list[HookStatus]:
    """What stands where the wanted hooks should."""
    directory = hooks_directory(common_dir, top)
    found = []
    for name in wanted_hooks(common_dir):
        path = os.path.join(directory, name.encode())
        found.append(HookStatus(name, os.fsdecode(path), _state(path, home), os.path.lexists(path + KEPT)))
    return found


def write_marker(common_dir: bytes, app_id: str) -> None:
    """Tell the hook which app the repository is: hooks may stand in a directory that many repositories share."""
    directory = os.path.join(common_dir, MARKER)
    os.makedirs(directory, exist_ok=True)
    replace_file(os.fsdecode(os.path.join(directory, b"app")), app_id.encode() + b"\n", 0o644)


def _remove_marker(common_dir: bytes) -> None:
    """Take the marker out, and its directory unless the list of env files is in it."""
    directory = os.path.join(common_dir, MARKER)
    if os.path.exists(os.path.join(directory, b"app")):
        os.unlink(os.path.join(directory, b"app"))
    if os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)


def _state(path: bytes, home: str) -> State:
    if not os.path.lexists(path):
        return State.MISSING
    with open(path, "rb") as file:
        text = file.read()
    if BEGIN not in text:
        return State.FOREIGN
    if b"provisioner_home=" + quoted(home) + b"\n" not in text:
        return State.OTHER_HOME
    if not all(os.path.exists(_unquoted(text, name)) for name in (b"provisioner_python=", b"provisioner_handover=")):
        return State.ORPHANED
    return State.INSTALLED if os.access(path, os.X_OK) else State.NOT_EXECUTABLE


def _install_one(path: bytes, name: str, home: str) -> None:
    if os.path.lexists(path):
        if _state(path, home) is State.OTHER_HOME:
            raise HooksRefused(
                f"{os.fsdecode(path)} is installed for another home", "Run 'provisioner hooks uninstall' with that home"
            )
        if _is_ours(path):
            _uninstall_one(path)
    if not os.path.lexists(path):
        _write(path, _own_script(name, home, kept=False), EXECUTABLE)
    elif _takes_a_block(path):
        with open(path, "rb") as file:
            first, _, rest = file.read().partition(b"\n")
        block = BEGIN + _guest_script(name, home) + END
        _write(path, first + b"\n" + block + rest, stat.S_IMODE(os.stat(path).st_mode))
    else:
        if os.path.lexists(path + KEPT):
            raise HooksRefused(
                f"{os.fsdecode(path + KEPT)} is in the way of keeping the hook that is there", "Move it somewhere else"
            )
        os.link(path, path + KEPT, follow_symlinks=False)  # the hook stays in its place until ours takes it
        _write(path, _own_script(name, home, kept=True), EXECUTABLE)


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
    """Is it an executable shell script of its own, so that a block behind its first line runs first?"""
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


# the scripts


def quoted(text: str) -> bytes:
    return b"'" + os.fsencode(text).replace(b"'", b"'\\''") + b"'"


def _unquoted(text: bytes, name: bytes) -> bytes:
    """The value that a script of ours gives to a variable."""
    return text.partition(name)[2].partition(b"\n")[0][1:-1].replace(b"'\\''", b"'")


def _template(name: str) -> bytes:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for directory in (os.path.join(package, "_hooks"), os.path.join(os.path.dirname(package), "hooks")):
        path = os.path.join(directory, name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                return file.read()
    raise HooksRefused(f"the hook script {name} is missing from this installation", "Reinstall timeline-provisioner")


def _body(name: str, home: str, *, guest: bool, last: bool) -> bytes:
    """What our part of a hook does. `guest`: in another's script, whose standard input is not ours to read.

    `last`: nothing comes behind it, so a process may take its place.
    """
    handover = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "handover.py")
    parts = {
        b"@PYTHON@": quoted(sys.executable),
        b"@HOME@": quoted(home),
        b"@HANDOVER@": quoted(handover),
        b"@FIND_APP@": _template("find-app.sh").rstrip(b"\n"),
        b"@ONLY_COMMITTED@": b'[ "$1" = committed ] || exit 0' if name == "reference-transaction" else b"",
        b"@ONLY_BRANCHES@": _ONLY_BRANCHES if name == "reference-transaction" and not guest else b"",
        b"@SAY_STALE@": _SAY_STALE if name == "post-checkout" else b"",
        b"@IN_FOREGROUND@": _IN_FOREGROUND if name == "post-checkout" else b"",
        b"@EXEC@": b"exec " if last else b"",
    }
    text = _template("post-receive.sh" if name == "post-receive" else "local.sh")
    for key, value in parts.items():
        text = text.replace(key, value)
    return text.replace(b"\n\n", b"\n")


_ONLY_BRANCHES = b"""\
while read -r provisioner_rest provisioner_rest provisioner_ref; do
  case $provisioner_ref in refs/heads/*) break ;; esac
done
case $provisioner_ref in refs/heads/*) ;; *) exit 0 ;; esac"""

_SAY_STALE = b"""\
[ "${3:-1}" = 1 ] || exit 0
if [ -n "${PROVISIONER_TIMELINE:-}" ]; then
  echo "provisioner: what this shell starts stays connected to $PROVISIONER_TIMELINE, as it was started" >&2
fi"""

_IN_FOREGROUND = b"""\
if [ -f "$provisioner_git/provisioner/env-files" ]; then
  "$provisioner_python" -E -P -S "$provisioner_handover" checkout "$provisioner_home" "$provisioner_app" </dev/null >&2
fi"""


def _own_script(name: str, home: str, *, kept: bool) -> bytes:
    """A whole hook of ours; it starts the kept one, whose exit code is then the hook's."""
    if not kept:
        return b"#!/bin/sh\n" + BEGIN + _body(name, home, guest=False, last=True) + END
    aside = b'"$0"' + quoted(os.fsdecode(KEPT))  # beside the hook, wherever the repository has been moved to
    ours = b"(\n" + _body(name, home, guest=True, last=False) + b")"
    if name == "post-receive":
        start = (
            b"provisioner_refs=$(cat)\nprovisioner_code=0\n"
            b"if [ -x " + aside + b" ]; then\n"
            b"  printf '%s\\n' \"$provisioner_refs\" | " + aside + b' "$@" || provisioner_code=$?\nfi\n'
        )
        return (
            b"#!/bin/sh\n" + BEGIN + start + b"printf '%s\\n' \"$provisioner_refs\" | " + ours + b"\n"
            b'exit "$provisioner_code"\n' + END
        )
    run = b"[ -x " + aside + b" ] || exit 0\nexec " + aside + b' "$@"\n'
    return b"#!/bin/sh\n" + BEGIN + ours + b" </dev/null\n" + run + END


def _guest_script(name: str, home: str) -> bytes:
    """Our part inside another's shell script: in a subshell, harmless under ``set -e``, its input left as it was."""
    ours = b"(\n" + _body(name, home, guest=True, last=False) + b")"
    if name != "post-receive":
        return ours + b" </dev/null || :\n"
    return (
        b"provisioner_refs=$(cat)\n"
        b"printf '%s\\n' \"$provisioner_refs\" | " + ours + b" || :\n"
        b"exec <<PROVISIONER_REFS\n$provisioner_refs\nPROVISIONER_REFS\nunset provisioner_refs\n"
    )
