"""A home that follows another one, usually on another machine: its registry and key are copies of that one's.

Provisioner servers may run in any number of homes, over databases that every machine reaches. Only the home that is
followed changes anything. A copy is a tar archive: `SUMS`, with the checksums of the others, the key, and the registry as
it was at one moment. Anyone with a copy can open all databases.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final

from provisioner.core.errors import ProvisionerError, StorageFailed, UsageError
from provisioner.registry import schema_version
from provisioner.system import failpoints, identity, in_place, secret_key, temp_dirs
from provisioner.system.atomic_file import replace_file, sync_path
from provisioner.system.file_lock import try_lock
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home
from provisioner.system.home_guard import must_be_home

FORMAT: Final = 1
BUSY_SECONDS: Final = 10.0
_SUMS, _KEY, _REGISTRY = "SUMS", "key", "registry.db"
_MOST_BYTES: Final = 64 * 1024  # of what comes before the registry
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Followed:
    """What a home follows: the command that gives copies, when (ms) one came last (None: not yet), and which."""

    command: tuple[str, ...]
    received_at: int | None
    sums: str = ""


def followed(home: Home) -> Followed | None:
    """None for an independent home. Raises StorageFailed."""
    try:
        with open(home.follows, encoding="utf-8") as file:
            read = json.load(file)
        return Followed(tuple(read["command"]), read["received_at"], read["sums"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageFailed(
            f"{home.follows} cannot be read: {error}", "Run 'provisioner home follow' again, or 'home promote'"
        ) from error


def copy(home: Home, output: BinaryIO) -> None:
    """Write a copy of a home's registry and key. Raises StorageFailed, and OSError where the output takes no more."""
    key = secret_key.secret(home)
    with temp_dirs.directory(home) as directory:
        path = os.path.join(directory, _REGISTRY)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        try:
            with (
                closing(sqlite3.connect(f"file:{home.registry}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as source,
                closing(sqlite3.connect(path)) as target,
            ):
                source.backup(target)
                _locate(home, target)
                target.execute("pragma journal_mode = delete")
            organization, found = _identity(path)
        except sqlite3.Error as error:
            raise StorageFailed(f"the registry {home.registry} cannot be copied: {error}") from error
        if organization is None:
            raise ProvisionerError(f"{home.path} has nothing to follow", "Run 'provisioner init' there first")
        sums = {
            "format": FORMAT,
            "version": found,
            "organization": organization,
            "key": hashlib.sha256(key).hexdigest(),
            "registry": _digest(path),
        }
        with tarfile.open(fileobj=output, mode="w|") as archive:
            _add(archive, _SUMS, json.dumps(sums).encode())
            _add(archive, _KEY, key)
            archive.add(path, _REGISTRY, filter=_anonymous)


_LOCATIONS = (
    *(("instance", "id", column) for column in ("location", "backup")),
    *((table, "instance_id", "location") for table in ("instance_move", "instance_left")),
)


def _locate(home: Home, copied: sqlite3.Connection) -> None:
    """Make the locations in the home absolute for homes that follow it, which do not have those directories."""
    for table, key, column in _LOCATIONS:
        rows = copied.execute(f"select {key}, {column} from {table} where {column} <> ''").fetchall()
        copied.executemany(
            f"update {table} set {column} = ? where {key} = ?", [(home.absolute(place), each) for each, place in rows]
        )
    copied.commit()


def receive(home: Home, copied: BinaryIO, command: tuple[str, ...], now: int) -> bool:
    """Make the home what a copy says, whole or not at all: whether anything was another. Raises ProvisionerError.

    Processes that have the registry open continue with the new one.
    """
    before = followed(home)
    if before is None and os.path.exists(home.registry):
        raise ProvisionerError(
            f"{home.path} has its own registry, which following would overwrite",
            "Set PROVISIONER_HOME to a directory that does not exist yet",
        )
    with temp_dirs.directory(home) as directory:
        path = os.path.join(directory, _REGISTRY)
        sums, key = _unpacked(copied, path)
        _must_fit(home, before, sums)
        mark = f"{sums['organization']} {sums['key']} {sums['registry']}"
        new = before is None or before.sums != mark
        if new:
            _save(
                home, Followed(command, before.received_at if before else None, "")
            )  # from here on nothing is changed here
            failpoints.point("follow.intended")
            if must_be_home(home) is None:
                identity.establish(home, str(sums["organization"]))
            os.makedirs(os.path.dirname(home.key), mode=DIRECTORY_MODE, exist_ok=True)
            replace_file(home.key, key, FILE_MODE)
            failpoints.point("follow.key")
            _put(home, path)
            failpoints.point("follow.registry")
        _save(home, Followed(command, now, mark))
    return new


def promote(home: Home) -> None:
    """Make a home that followed another one independent. Raises ProvisionerError."""
    found = followed(home)
    if found is None:
        raise UsageError(f"{home.path} does not follow another home", "Nothing to do")
    if not found.sums:
        raise ProvisionerError(
            f"{home.path} has not received a complete copy", "Wait until 'provisioner home follow' has succeeded once"
        )
    with following_alone(home):
        identity.establish(home, found.sums.split(" ")[0])
        os.unlink(home.follows)
        sync_path(home.path)


@contextmanager
def following_alone(home: Home) -> Iterator[None]:
    """Be the one process that receives copies for a home. Raises ProvisionerError where another does."""
    fd = try_lock(os.path.join(home.locks, "follow.lock"))
    if fd is None:
        raise ProvisionerError(f"another process receives copies for {home.path}", "Stop it first")
    try:
        yield
    finally:
        os.close(fd)


def _unpacked(copied: BinaryIO, path: str) -> tuple[dict[str, object], bytes]:
    """What a copy says it is, and its key; the registry is written to `path`."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=copied, mode="r|") as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                if file is None:
                    raise ValueError("it has more than files in it")
                if entry.name == _REGISTRY:
                    with open(path, "xb", opener=_private) as target:
                        shutil.copyfileobj(file, target, _PIECE)
                else:
                    found[entry.name] = file.read(_MOST_BYTES)
        sums = dict(json.loads(found[_SUMS]))
        if sums["format"] == FORMAT:
            _verify(sums, found[_KEY], path)
            return sums, found[_KEY]
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, FileExistsError, sqlite3.Error) as error:
        raise ProvisionerError(
            f"this is not a complete copy of a home: {error}", "Use the output of 'provisioner home copy'"
        ) from error
    except OSError as error:
        raise StorageFailed(f"a copy cannot be kept: {error.strerror}", "Make room in the home") from error
    raise ProvisionerError(
        "this copy of a home is from another version", "Use the same version of provisioner in both homes"
    )


def _verify(sums: dict[str, object], key: bytes, path: str) -> None:
    """Raises ValueError where a copy is not what it says that it is."""
    there = os.path.exists(path) and (hashlib.sha256(key).hexdigest(), _digest(path), *_identity(path))
    if there != (sums["key"], sums["registry"], sums["organization"], sums["version"]):
        raise ValueError("it was cut short, or changed")


def _identity(path: str) -> tuple[str | None, int]:
    """The organization whose registry this is, and its version."""
    with closing(sqlite3.connect(path)) as copied:
        row = copied.execute("select id from organization").fetchone()
        return (row[0] if row else None), copied.execute("pragma user_version").fetchone()[0]


def _must_fit(home: Home, before: Followed | None, sums: dict[str, object]) -> None:
    if sums["version"] != schema_version.VERSION:
        raise ProvisionerError(
            f"the copy has a registry of version {sums['version']}, and this home's is {schema_version.VERSION}",
            "Use the same version of provisioner in both homes",
        )
    if before is not None and before.sums and before.sums.split(" ")[0] != sums["organization"]:
        raise ProvisionerError(
            f"the copy is of another home than the one that {home.path} follows", "Use another home for it"
        )


def _put(home: Home, path: str) -> None:
    """Write a registry over the home's, in one transaction."""
    try:
        if not os.path.exists(home.registry):
            os.close(os.open(home.registry, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        in_place.make(f"{home.registry}-shm", FILE_MODE)
        with (
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(home.registry, timeout=BUSY_SECONDS, isolation_level=None)) as target,
        ):
            target.execute("pragma journal_mode = wal")
            target.execute("pragma synchronous = full")
            source.backup(target)
            failpoints.point("follow.written")
    except (sqlite3.Error, OSError) as error:
        raise StorageFailed(f"the registry {home.registry} cannot be written: {error}", "Make room there") from error


def _save(home: Home, found: Followed) -> None:
    document = {"command": found.command, "received_at": found.received_at, "sums": found.sums}
    try:
        replace_file(home.follows, json.dumps(document).encode(), FILE_MODE)
    except OSError as error:
        raise StorageFailed(f"{home.follows} cannot be written: {error.strerror}", "Make room there") from error


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), FILE_MODE
    archive.addfile(entry, BytesIO(data))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
