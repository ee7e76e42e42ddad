"""The identity that a directory claims to be a home by. Light: `exec` imports it.

    <home>/identity    one line each: format, id, inode of this file, machine; then the path at which the home is

An inode is its number and its generation, which distinguishes it from a later file with the same number.

A copied, moved, or restored home has this file too, but a part of it no longer matches. Then nothing is changed and no
program is connected until its operator has declared what it is: see `provisioner home adopt`.
"""

from __future__ import annotations

import fcntl
import os

from provisioner.core.errors import WrongHome, shortage
from provisioner.system.home import FILE_MODE, Home

FORMAT = "1"
_MOST_BYTES = 16_384
_GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION of linux/fs.h; ext4, xfs, btrfs and others have it
_MACHINES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_MACHINE_DIGITS = 32


class Identity:
    """`inode` and `machine` are empty if they are not known: then they are not compared. So is a generation."""

    __slots__ = ("id", "inode", "machine", "path")

    def __init__(self, id: str, inode: str, machine: str, path: str) -> None:  # noqa: A002
        self.id = id
        self.inode = inode
        self.machine = machine
        self.path = path


def read(home: Home) -> tuple[Identity | None, str] | None:
    """The content of the file, None if it is not an identity, with the file's inode; None if there is no file.

    Raises WrongHome if it cannot be read.
    """
    try:
        fd = os.open(home.identity, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        short = shortage(error)
        raise WrongHome(
            f"{home.identity} cannot be read: {error.strerror}",
            short.hint if short else f"Make the user that runs provisioner the owner of {home.path}",
        ) from error
    try:
        return _parsed(os.read(fd, _MOST_BYTES)), inode_of(fd)
    finally:
        os.close(fd)


def is_here(identity: Identity, home: Home, inode: str) -> bool:
    return fits(identity, inode) and is_at(identity, home)


def inode_of(fd: int) -> str:
    """Number and generation of an open file's inode; without the generation if the file system has none."""
    number = os.fstat(fd).st_ino
    try:
        generation = fcntl.ioctl(fd, _GET_GENERATION, bytes(8))
    except OSError:
        return f"{number} "
    return f"{number} {int.from_bytes(generation[:4], 'little')}"


def fits(identity: Identity, inode: str) -> bool:
    """Whether this file is the one that was written then, on this machine."""
    if identity.inode:
        was, is_now = identity.inode.split(" "), inode.split(" ")
        if was[0] != is_now[0] or (was[-1] and is_now[-1] and was[-1] != is_now[-1]):
            return False
    here = machine() if identity.machine else ""
    return here in ("", identity.machine)


def is_at(identity: Identity, home: Home) -> bool:
    """Whether the path that the home was created at leads to this directory, even by another name. A file may be linked."""
    if identity.path == home.path:
        return True
    try:
        return os.path.samefile(identity.path, home.path)
    except OSError:
        return False


def establish(home: Home, home_id: str) -> None:
    """Make this directory the home with this id. Raises OSError."""
    record(home, home_id, os.path.realpath(home.path), machine(), known=True)


def record(home: Home, home_id: str, path: str, machine_id: str, *, known: bool) -> None:
    """Write an identity, with its inode if that is `known`. Raises OSError."""
    from provisioner.system.atomic_file import replace_file

    def text(fd: int) -> bytes:
        lines = (FORMAT, home_id, inode_of(fd) if known else "", machine_id)
        return "".join(f"{line}\n" for line in lines).encode() + os.fsencode(path)

    replace_file(home.identity, text, FILE_MODE)


def machine() -> str:
    """The id that the system gives to this machine; empty if it gives none, as in most containers."""
    for path in _MACHINES:
        try:
            with open(path, "rb", buffering=0) as file:
                found = (file.read(_MACHINE_DIGITS + 1) or b"").rstrip(b"\n").decode("ascii", "replace")
        except OSError:
            continue
        if len(found) == _MACHINE_DIGITS and found.isalnum():
            return found
    return ""


def _parsed(data: bytes) -> Identity | None:
    words = data.split(b"\n", 4)
    if len(words) != 5 or words[0] != FORMAT.encode() or not words[1] or not words[4].startswith(b"/"):
        return None
    home_id, inode, machine_id = (word.decode("ascii", "replace") for word in words[1:4])
    return Identity(home_id, inode, machine_id, os.fsdecode(words[4]))
