"""A marked block in a file such as ``.env.local``, kept up with the branch that is checked out.

Everything outside the block is the user's and stays as it is. Where the branch has no connected database the block is
emptied and says why: it never keeps the variables of the branch that was there before.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NoReturn

from provisioner.core.errors import ProvisionerError, StorageFailed, UsageError
from provisioner.environment.formats import FORMATS, Variables
from provisioner.environment.resolve import Environ, Selectors, resolve
from provisioner.git.worktree import Checkout, find_checkout
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import Home

BEGIN = "# >>> provisioner >>> kept by 'provisioner env --write'; changes in this block are lost\n"
END = "# <<< provisioner <<<\n"
WRITABLE = ("dotenv", "docker", "systemd", "shell")


_MARK = re.compile(r"^\ufeff?(?P<mark># (?P<kind>>>>|<<<) provisioner (?P=kind).*\n?)", re.MULTILINE)


def write(path: str, text: str, *, crlf: bool = True) -> None:
    """Put `text` into the block of the file, which is made (mode 0600) where it is missing.

    A symbolic link is followed; the file keeps its mode and its line ends, which the block gets too unless `crlf` says
    that its reader would take a CR for a part of the value. Raises `UsageError` where the block cannot be told and
    `StorageFailed` where the system refuses; the file is then as it was.
    """
    target = os.path.realpath(path)
    before, after, mode = "", "", 0o600
    try:
        if os.path.lexists(target):
            if not os.path.isfile(target):
                raise UsageError(f"{path} is no regular file", "Name a file such as .env.local")
            mode = stat.S_IMODE(os.stat(target).st_mode)
            with open(target, encoding="utf-8", errors="surrogateescape", newline="") as file:
                before, after = _around_blocks(path, file.read())
        whole = _with_block(before, BEGIN + text + END, after, crlf=crlf)
        replace_file(target, whole.encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise StorageFailed(
            f"cannot keep the block in {path}: {error.strerror}", "Let this user read and write it and its directory"
        ) from error


def _around_blocks(path: str, text: str) -> tuple[str, str]:
    """What stands before and behind our block. Of several the first one's place counts; none of them stays."""
    marks = list(_MARK.finditer(text))
    for number, mark in enumerate(marks):
        if mark["kind"] == ">>>" and number % 2:
            _refuse(path, "end", f"Put this line behind it: {END.strip()}")
        if mark["kind"] == "<<<" and not number % 2:
            _refuse(path, "beginning", f"Remove what is left of it, up to this line: {END.strip()}")
    if len(marks) % 2:
        _refuse(path, "end", f"Put this line behind it: {END.strip()}")
    pieces = []
    position = 0
    for begin, end in zip(marks[::2], marks[1::2], strict=True):
        pieces.append(text[position : begin.start("mark")])
        position = end.end()
    pieces.append(text[position:])
    return (pieces[0], "".join(pieces[1:])) if marks else (text, "")


def _refuse(path: str, part: str, hint: str) -> NoReturn:
    raise UsageError(f"the provisioner block in {path} has no {part}", hint)


def _with_block(before: str, block: str, after: str, *, crlf: bool) -> str:
    users = before + after
    windows = "\n" in users and users[: users.index("\n")].endswith("\r")
    if before and not before.endswith(("\n", "\ufeff")):
        before += "\r\n" if windows else "\n"
    return before + (block.replace("\n", "\r\n") if windows and crlf else block) + after


def place(checkout: Checkout, path: str) -> str:
    """Where a file that is to be kept up lies, relative to the top of the checkout.

    Raises `UsageError` where that, or what it links to, is not among the checkout's files: what a branch brings along
    must not lead us to write anywhere else.
    """
    if checkout.top is None:
        raise UsageError("a bare repository has no files to keep up", "Run it in a checkout")
    top = os.path.realpath(os.fsdecode(checkout.top))
    lexical = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    for candidate in (lexical, os.path.realpath(path)):
        parts = os.path.relpath(candidate, top).lower().split(os.sep)
        if parts[0] == os.pardir or ".git" in parts:
            raise UsageError(
                f"{path} is outside of the checkout's files and cannot be kept up",
                "Name a file in it, such as .env.local, or write it once: --branch NAME",
            )
    if "\n" in lexical:
        raise UsageError(f"{path!r} has a line break in its name", "Name a file such as .env.local")
    return os.path.relpath(lexical, top)


def takes_crlf(format_name: str, values: Variables) -> bool:
    """May its lines end in CRLF? A shell takes the CR for a part of the value, and so does a value of several lines."""
    return format_name != "shell" and not any("\n" in value for value in values.values())


def remember(checkout: Checkout, path: str, format_name: str, context: str | None = None) -> None:
    """Ask `post-checkout` to keep up this file, in every worktree at the same place."""
    relative = place(checkout, path)
    entry = f"{format_name}{f':{context}' if context else ''} {relative}"
    before = remembered(checkout)
    entries = [line for line in before if line.partition(" ")[2] != relative]
    if entry not in before or len(before) > len(entries) + 1:
        directory = os.path.join(checkout.common_dir, b"provisioner")
        os.makedirs(directory, exist_ok=True)
        listing = "".join(f"{line}\n" for line in [*entries, entry])
        replace_file(os.fsdecode(os.path.join(directory, b"env-files")), os.fsencode(listing), 0o644)


def remembered(checkout: Checkout) -> list[str]:
    """Lines of format name, with ``:local`` where local variables are wanted, and path relative to the top of a worktree."""
    path = os.path.join(checkout.common_dir, b"provisioner", b"env-files")
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return [line for line in os.fsdecode(file.read()).split("\n") if line]


def refresh(home: Home, cwd: bytes, environ: Environ) -> list[str]:
    """Bring the remembered files of the checkout in `cwd` up to date. Returns what its user should know."""
    checkout = find_checkout(cwd)
    if checkout is None or checkout.top is None:
        return []
    said = []
    for entry in remembered(checkout):
        how, _, relative = entry.partition(" ")
        format_name, _, context = how.partition(":")
        path = os.path.join(os.fsdecode(checkout.top), relative)
        if os.path.isdir(os.path.dirname(path)) and format_name in WRITABLE:
            try:
                place(checkout, path)
                said.append(_refresh(home, cwd, environ, path, format_name, relative, context or None))
            except ProvisionerError as error:
                said.append(f"{relative} IS LEFT AS IT WAS, perhaps connected to another branch: {error}")
    return said


def _refresh(
    home: Home, cwd: bytes, environ: Environ, path: str, format_name: str, relative: str, context: str | None
) -> str:
    try:
        connection, values = resolve(home, Selectors(context=context), cwd, environ, patient=False)
        text = FORMATS[format_name](values)
        crlf = takes_crlf(format_name, values)
        said = f"{relative} is connected to {connection.timeline}"
    except ProvisionerError as error:
        text = "".join(f"# not connected: {line}\n" for line in str(error).splitlines())
        crlf = True
        said = f"{relative} is not connected: {error}"
    write(path, text, crlf=crlf)
    return said
