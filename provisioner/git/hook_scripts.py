"""The scripts of hooks: ours alone, around another one, or as a block inside another shell script."""

from __future__ import annotations

import os
import sys

from provisioner.core.errors import ProvisionerError

BEGIN = b"# >>> provisioner >>> written by 'provisioner hooks install', removed by 'provisioner hooks uninstall'\n"
END = b"# <<< provisioner <<<\n"
KEPT = b".before-provisioner"


class HooksRefused(ProvisionerError):  # noqa: N818
    """The hooks cannot be installed where git looks for them."""


def quoted(text: str) -> bytes:
    return b"'" + os.fsencode(text).replace(b"'", b"'\\''") + b"'"


def unquoted(text: bytes, name: bytes) -> bytes:
    """The value that provisioner's script gives to a variable."""
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
        b"@SAY_GONE@": _template("say-gone.sh").rstrip(b"\n"),
        b"@UNSAID@": b":" if name == "post-receive" else b"exit 0",  # the user who pushes may not write there
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


def own_script(name: str, home: str, *, kept: bool) -> bytes:
    """A whole hook; it starts the kept one, whose exit code is then the hook's."""
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


def guest_script(name: str, home: str) -> bytes:
    """Our part inside another's shell script: in a subshell, harmless under ``set -e``, its input left as it was."""
    ours = b"(\n" + _body(name, home, guest=True, last=False) + b")"
    if name != "post-receive":
        return ours + b" </dev/null || :\n"
    return (
        b"provisioner_refs=$(cat)\n"
        b"printf '%s\\n' \"$provisioner_refs\" | " + ours + b" || :\n"
        b"exec <<PROVISIONER_REFS\n$provisioner_refs\nPROVISIONER_REFS\nunset provisioner_refs\n"
    )
