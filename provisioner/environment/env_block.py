"""A marked block in a file such as ``.env.local``. Everything outside of the block belongs to the user and stays as it is.

Light: `exec` imports it for checkouts with such files.
"""

from __future__ import annotations

import os
import stat

from provisioner.core.errors import StorageFailed, UsageError
from provisioner.environment.formats import Variables
from provisioner.system.atomic_file import replace_file

BEGIN = "# >>> provisioner >>> kept by 'provisioner env --write'; changes in this block are lost\n"
END = "# <<< provisioner <<<\n"
MOST = 1024 * 1024  # characters of a file: a branch may hold any
WRITABLE = ("dotenv", "docker", "systemd", "shell")
_MARK_OF_BEGIN = b"# >>> provisioner >>>"
_MARK = r"^\ufeff?(?P<mark># (?P<kind>>>>|<<<) provisioner (?P=kind).*\n?)"


def write(path: str, text: str, *, crlf: bool = True) -> None:
    """Put `text` into the block of the file. A missing file is created with mode 0600.

    A symbolic link is followed. The file keeps its mode and its line ends; the block gets the same line ends unless
    `crlf` is false, because its reader would take a CR for a part of the value. Raises `UsageError` if the block has
    only one of its two marks and `StorageFailed` if the system refuses; the file is then unchanged.
    """
    try:
        target, before, after, mode = _read(path)
        whole = _with_block(before, BEGIN + text + END, after, crlf=crlf)
        replace_file(target, whole.encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise _failed(path, error) from error


def remove(path: str) -> bool:
    """Remove the block from the file, and delete a file that holds nothing else. False if there is no block.

    Raises as `write`.
    """
    try:
        target, before, after, mode = _read(path)
        with open(target, encoding="utf-8", errors="surrogateescape", newline="") as file:
            if file.read() == before + after:
                return False
        if (before + after).strip("\ufeff \t\r\n"):
            replace_file(target, (before + after).encode("utf-8", "surrogateescape"), mode)
        else:
            os.unlink(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failed(path, error) from error
    return True


def holds(path: str, text: str) -> bool:
    """Whether the block of the file is exactly `text`. Line ends do not count."""
    try:
        with open(path, "rb") as file:
            found = file.read(4 * MOST).replace(b"\r\n", b"\n")
    except OSError:
        return False
    block = (BEGIN + text + END).encode("utf-8", "surrogateescape")
    return block in found and found.count(_MARK_OF_BEGIN) == 1


def _read(path: str) -> tuple[str, str, str, int]:
    """The file that `path` leads to, the text before and after its block, and its mode."""
    target = os.path.realpath(path)
    if not os.path.lexists(target):
        return target, "", "", 0o600
    if not os.path.isfile(target):
        raise UsageError(f"{path} is not a regular file", "Use a file such as .env.local")
    with open(target, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise UsageError(f"{path} has more than {MOST} characters", "Use a file such as .env.local")
    return target, *_around_blocks(path, text), stat.S_IMODE(os.stat(target).st_mode)


def _failed(path: str, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"cannot write the provisioner block in {path}: {error.strerror}",
        "Give this user access to the file and its directory",
    )


def _around_blocks(path: str, text: str) -> tuple[str, str]:
    """The text before and after provisioner's block. If there are several, the first one's place counts; all are removed."""
    import re

    marks = list(re.finditer(_MARK, text, re.MULTILINE))
    for number, mark in enumerate(marks):
        if mark["kind"] == ">>>" and number % 2:
            _refuse(path, "end", f"Add this line after it: {END.strip()}")
        if mark["kind"] == "<<<" and not number % 2:
            _refuse(path, "beginning", f"Remove its remains, up to this line: {END.strip()}")
    if len(marks) % 2:
        _refuse(path, "end", f"Add this line after it: {END.strip()}")
    pieces = []
    position = 0
    for begin, end in zip(marks[::2], marks[1::2], strict=True):
        pieces.append(text[position : begin.start("mark")])
        position = end.end()
    pieces.append(text[position:])
    return (pieces[0], "".join(pieces[1:])) if marks else (text, "")


def _refuse(path: str, part: str, hint: str) -> None:
    raise UsageError(f"the provisioner block in {path} has no {part}", hint)


def _with_block(before: str, block: str, after: str, *, crlf: bool) -> str:
    users = before + after
    windows = "\n" in users and users[: users.index("\n")].endswith("\r")
    if before and not before.endswith(("\n", "\ufeff")):
        before += "\r\n" if windows else "\n"
    return before + (block.replace("\n", "\r\n") if windows and crlf else block) + after


def takes_crlf(format_name: str, values: Variables) -> bool:
    """Whether its lines may end in CRLF. A shell takes the CR for a part of the value, and so does a value of several lines."""
    return format_name != "shell" and not any("\n" in value for value in values.values())
