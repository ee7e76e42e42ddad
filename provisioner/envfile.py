"""A marked block in a file such as ``.env.local``, kept up with the branch that is checked out.

Everything outside the block is the user's and stays as it is. Where the branch has no connected database the block is
emptied and says why: it never keeps the variables of the branch that was there before.
"""

from __future__ import annotations

import os
import stat

from provisioner.config import Home
from provisioner.durable import replace_file
from provisioner.errors import ProvisionerError, UsageError
from provisioner.formats import FORMATS
from provisioner.git.worktree import Checkout, find_checkout
from provisioner.resolving import Environ, Selectors, resolve

BEGIN = "# >>> provisioner >>> kept by 'provisioner env --write'; changes in this block are lost\n"
END = "# <<< provisioner <<<\n"
WRITABLE = ("dotenv", "docker", "systemd", "shell")


def write(path: str, text: str) -> None:
    """Put `text` into the block of the file, which is made (mode 0600) where it is missing."""
    before, after, mode = "", "", 0o600
    if os.path.lexists(path):
        if not os.path.isfile(path):
            raise UsageError(f"{path} is no regular file", "Name a file such as .env.local")
        mode = stat.S_IMODE(os.stat(path).st_mode)
        path = os.path.realpath(path)
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            before, after = _around_block(path, file.read())
    if before and not before.endswith("\n"):
        before += "\n"
    whole = before + BEGIN + text + END + after
    replace_file(path, whole.encode("utf-8", "surrogateescape"), mode)


def _around_block(path: str, text: str) -> tuple[str, str]:
    before, begin, rest = text.partition(BEGIN)
    if not begin:
        return text, ""
    _, end, after = rest.partition(END)
    if not end:
        raise UsageError(f"the provisioner block in {path} has no end", f"Put this line behind it: {END.strip()}")
    return before, after


def remember(checkout: Checkout, path: str, format_name: str) -> None:
    """Ask `post-checkout` to keep up this file, in every worktree at the same place."""
    if checkout.top is None:
        raise UsageError("a bare repository has no files to keep up", "Run it in a checkout")
    relative = os.path.relpath(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.fsdecode(checkout.top))
    if relative.startswith(".."):
        raise UsageError(f"{path} is outside of the checkout", "Name a file in it, such as .env.local")
    entry = f"{format_name} {os.path.normpath(os.path.join(relative, os.path.basename(path)))}"
    entries = remembered(checkout)
    if entry not in entries:
        directory = os.path.join(checkout.common_dir, b"provisioner")
        os.makedirs(directory, exist_ok=True)
        listing = "".join(f"{line}\n" for line in [*entries, entry])
        replace_file(os.fsdecode(os.path.join(directory, b"env-files")), os.fsencode(listing), 0o644)


def remembered(checkout: Checkout) -> list[str]:
    """Lines of format name and path relative to the top of a worktree."""
    path = os.path.join(checkout.common_dir, b"provisioner", b"env-files")
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return os.fsdecode(file.read()).splitlines()


def refresh(home: Home, cwd: bytes, environ: Environ) -> list[str]:
    """Bring the remembered files of the checkout in `cwd` up to date. Returns what its user should know."""
    checkout = find_checkout(cwd)
    if checkout is None or checkout.top is None:
        return []
    said = []
    for entry in remembered(checkout):
        format_name, _, relative = entry.partition(" ")
        path = os.path.join(os.fsdecode(checkout.top), relative)
        try:
            connection, values = resolve(home, Selectors(), cwd, environ)
            text = FORMATS[format_name](values)
            said.append(f"{relative} is connected to {connection.timeline}")
        except ProvisionerError as error:
            text = "".join(f"# not connected: {line}\n" for line in str(error).splitlines())
            said.append(f"{relative} is not connected: {error}")
        if os.path.isdir(os.path.dirname(path)):
            write(path, text)
    return said
