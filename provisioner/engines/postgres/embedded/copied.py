"""An embedded server whose home was copied: its port, its password and its files become its own.

A copied directory names what the original has: the port, the administrator's password and, as root, the files themselves,
which are not in the home. Nothing here connects to the original or writes to its files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from glob import glob

from provisioner.core.errors import StorageFailed
from provisioner.engines.postgres.embedded import account, cleanup, server
from provisioner.engines.protocol import location
from provisioner.engines.protocol.location import PASSWORD_FILE, PORT_FILE
from provisioner.system import identity
from provisioner.system.atomic_file import replace_file, sync_file_system
from provisioner.system.home import FILE_MODE
from provisioner.system.processes import are_shown

_OWN_FILE = "own-files"
_CONTROL = os.path.join("global", "pg_control")
_LAST_WORDS = 400
_END_SECONDS, _ALONE_SECONDS, _LOOK_SECONDS = 5.0, 60.0, 0.05


def separate(directory: str) -> str:
    """Separate the directory from the original. Returns a note for the operator, empty if there is none.

    If interrupted, it starts again. Raises StorageFailed.
    """
    data = location.data_of(directory)
    own = os.path.dirname(data) == directory or _is_own(directory, os.path.dirname(data))
    try:
        if own and are_shown():
            server.stop(directory)  # an adoption that was cut off has started it
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, PORT_FILE))
        return _made_own(directory, data) if own else _with_own_files(directory, data)
    except OSError as error:
        raise StorageFailed(
            f"the server in {directory} cannot be separated from the original: {error}", "Resolve this"
        ) from error


def _made_own(directory: str, data: str) -> str:
    """Its files were copied with the home."""
    if not os.path.exists(os.path.join(data, "PG_VERSION")):
        return f"the server in {directory} has no files here, so its databases cannot be used"
    ran = os.path.exists(os.path.join(data, "postmaster.pid"))
    for left in (os.path.join(data, "postmaster.pid"), *glob(os.path.join(os.path.dirname(data), ".s.PGSQL.*"))):
        with suppress(FileNotFoundError):
            os.unlink(left)
    _replace_password(directory, data)
    if not ran:
        return ""
    return f"the server in {directory} ran while it was copied. If the copy was not an atomic snapshot, check its data"


def _with_own_files(directory: str, data: str) -> str:
    """Its files lie outside of the home, where the original has them: copy them from there.

    What an attempt that was cut off has not copied completely is not deleted: nothing says that it is not the original's.
    """
    if not os.path.exists(os.path.join(data, "PG_VERSION")):
        _lead_to(directory, account.new_place())
        return f"the files of the server in {directory} are not on this machine, so its databases cannot be used"
    _must_rest(directory, data)
    before = _control(data)
    place = account.new_place()
    account.make_place(place, directory)
    copied = os.path.join(place, "data")
    try:
        shutil.copytree(data, copied, symlinks=True)
        _own(copied)
        sync_file_system(place)
        _must_rest(directory, data)
        if _control(data) != before:
            raise _running(directory)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    _note_own(directory, place)
    _lead_to(directory, place)
    return _made_own(directory, copied)


def _must_rest(directory: str, data: str) -> None:
    """Raises StorageFailed while the original's server runs: what is copied then is not what it has.

    The processes of one that was stopped just now have a moment to end, and what an adoption that was cut off has started has
    as long as its last flush to the disk takes.
    """
    began = time.monotonic()
    while at_work := cleanup.processes_in(os.path.realpath(data)):
        if time.monotonic() - began > (_END_SECONDS if _serves(data) else _ALONE_SECONDS):
            raise _running(directory)
        time.sleep(_LOOK_SECONDS)
    if at_work is None and os.path.exists(os.path.join(data, "postmaster.pid")):
        raise _running(directory)


def _serves(data: str) -> bool:
    """Is it a server that works there? One that only executes a statement writes its process id as a negative number."""
    try:
        with open(os.path.join(data, "postmaster.pid")) as file:
            return not file.readline().startswith("-")
    except FileNotFoundError:
        return False


def _running(directory: str) -> StorageFailed:
    name = os.path.basename(directory)
    return StorageFailed(
        f"the original's server {name} runs, so its files cannot be copied",
        f"In the original home run: provisioner instance stop {name}. Then run this again",
    )


def _control(data: str) -> bytes:
    """What a server writes whenever it starts, stops or makes a checkpoint."""
    with open(os.path.join(data, _CONTROL), "rb") as file:
        return file.read()


def _own(copied: str) -> None:
    owner = account.account()
    for path, _, names in os.walk(copied):
        os.chown(path, owner.pw_uid, owner.pw_gid)
        for name in names:
            os.chown(os.path.join(path, name), owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _lead_to(directory: str, place: str) -> None:
    replace_file(os.path.join(directory, "elsewhere"), os.fsencode(place), FILE_MODE)


def _note_own(directory: str, place: str) -> None:
    """Note that the files at this place are of this directory, in a file that is no longer valid once it is copied."""
    path = os.path.join(directory, _OWN_FILE)
    with suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(fd, f"{identity.inode_of(fd)}\n{place}".encode("utf-8", "surrogateescape"))
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_own(directory: str, place: str) -> bool:
    """Has an adoption that was cut off copied the files at this place for this directory?"""
    try:
        with open(os.path.join(directory, _OWN_FILE), encoding="utf-8", errors="surrogateescape") as file:
            inode = identity.inode_of(file.fileno())
            return inode != "" and file.read() == f"{inode}\n{place}"
    except FileNotFoundError:
        return False


def _replace_password(directory: str, data: str) -> None:
    """Give the administrator a new password, without a server that others could connect to."""
    secret = secrets.token_hex(32)
    replace_file(os.path.join(directory, PASSWORD_FILE), secret.encode(), FILE_MODE)
    done = subprocess.run(
        [os.path.join(server.programs(data), "postgres"), "--single", "-D", data, "postgres"],
        input=f"alter role {server.ADMIN} password '{secret}'\n".encode(),
        capture_output=True,
        env=account.environment(),
        check=False,
        **account.as_account(),
    )
    said = done.stderr.decode(errors="replace")
    if done.returncode or "ERROR:" in said or "FATAL:" in said:
        words = " ".join(said.split())[-_LAST_WORDS:]
        raise StorageFailed(
            f"the server in {directory} cannot be started from this copy: {words}",
            f"Copy it again while it is stopped, or remove {directory} to continue without its data",
        )
