"""A backup of an instance: one file with a consistent copy of each of its databases, and a list of what they are."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from io import BytesIO

from provisioner import __version__
from provisioner.core.clock import rfc3339
from provisioner.core.errors import StorageFailed
from provisioner.core.model import App, Database, Instance, Timeline
from provisioner.engines.catalog import engine_of
from provisioner.engines.files.staging import reason
from provisioner.reconcile.apply.locks import database_locked
from provisioner.registry.store import Registry
from provisioner.system import failpoints
from provisioner.system.atomic_file import sync_path
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE

FORMAT = 1
_LEVEL = 3  # of compression: higher ones take several times as long for some percent

Held = tuple[App, Timeline, Database]


def make_backup(
    registry: Registry,
    instance: Instance,
    held: Sequence[Held],
    now: int,
    progress: Callable[[int], None],
    warn: Callable[[str], None],
) -> str:
    """Write the backup and return its path. It is on disk whole, or not at all. `progress` gets the number of databases in
    it, `warn` the damaged ones.

    Programs may continue to write: it has one moment of each database. The caller holds the instance's lock. Raises
    StorageFailed and Busy.
    """
    directory = registry.home.backups
    at = (rfc3339(now) or "")[:19].replace(":", "").replace("-", "")
    target = os.path.join(directory, f"{instance.slug}-{at}-{instance.id[:8]}.tar.gz")
    beside = _beside(registry, instance)
    try:
        os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
        forget_unfinished(registry, instance)
        os.mkdir(beside, DIRECTORY_MODE)
        built = os.path.join(beside, "backup.tar.gz")
        fd = os.open(built, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_LEVEL) as archive:
                _write(registry, instance, held, now, beside, archive, progress, warn)
            file.flush()
            os.fsync(file.fileno())
        os.rename(built, target)
        sync_path(directory)
    except OSError as error:
        raise StorageFailed(f"cannot write the backup {target}: {reason(error)}", _NOTHING) from error
    except StorageFailed as error:
        raise StorageFailed(f"cannot back up {instance.slug}: {error}", _NOTHING) from error
    finally:
        with suppress(OSError):
            forget_unfinished(registry, instance)
    return target


_NOTHING = "Nothing was deleted. Resolve this, or use --no-backup"


def forget_unfinished(registry: Registry, instance: Instance) -> None:
    """Remove what a backup that was cut off has left. The caller holds the instance's lock."""
    if os.path.isdir(beside := _beside(registry, instance)):
        shutil.rmtree(beside)


def _beside(registry: Registry, instance: Instance) -> str:
    return os.path.join(registry.home.backups, f"unfinished-{instance.id}")


def _write(
    registry: Registry,
    instance: Instance,
    held: Sequence[Held],
    now: int,
    beside: str,
    archive: tarfile.TarFile,
    progress: Callable[[int], None],
    warn: Callable[[str], None],
) -> None:
    listed = []
    for number, (app, timeline, database) in enumerate(held, 1):
        directory = os.path.join(beside, database.id)
        with database_locked(registry, database):
            storage = registry.storage_of(database)
            path, copied = engine_of(storage).copy_out(storage, database, directory)
        name = f"{instance.slug}/{app.slug}/{database.name}-{database.id[:8]}/{os.path.basename(path)}"
        digest, size = _digest(path)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, FILE_MODE, now // 1000
        with open(path, "rb") as file:
            archive.addfile(entry, file)
        shutil.rmtree(directory)
        listed.append(
            {
                "file": name,
                "app": app.slug,
                "timeline": os.fsdecode(timeline.name),
                "branch": None if timeline.preview else os.fsdecode(timeline.branch),
                "revision": timeline.revision or None,
                "database": database.name,
                "database_id": database.id,
                "status": str(database.status),
                "created_at": rfc3339(database.created_at),
                "version": copied.version,
                "size": size,
                "sha256": digest,
                "damage": copied.damage or None,
            }
        )
        if copied.damage:
            warn(f"{database.name} is damaged: {copied.damage}. The backup has it as it is")
        failpoints.point("delete.copied")
        progress(number)
    manifest = {
        "format": FORMAT,
        "provisioner": __version__,
        "instance": instance.slug,
        "instance_id": instance.id,
        "engine": instance.engine,
        "made_at": rfc3339(now),
        "databases": listed,
    }
    text = json.dumps(manifest, indent=2).encode()
    entry = tarfile.TarInfo(f"{instance.slug}/manifest.json")
    entry.size, entry.mode, entry.mtime = len(text), FILE_MODE, now // 1000
    archive.addfile(entry, BytesIO(text))


def _digest(path: str) -> tuple[str, int]:
    found, size = sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
            size += len(piece)
    return found.hexdigest(), size
