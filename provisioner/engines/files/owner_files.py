"""Owner records of deno-kv databases: a small file in each directory, and for each timeline a link by which it is found.

<location>/<stage>/<id>/owner.json the home, app, timeline and instance that the database is of
<location>/owners/<key>            a link whose text is the id of the database of the timeline with this key
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Instance
from provisioner.core.owner import InstanceMark, Owner
from provisioner.core.untrusted_file import read_text
from provisioner.engines.files.layout import OWNER_NAME, file_in
from provisioner.engines.files.orphans import is_empty
from provisioner.engines.files.staging import reason
from provisioner.engines.protocol import instance_mark
from provisioner.engines.protocol.engine import Failures, StoredDatabase
from provisioner.system import in_place
from provisioner.system.atomic_file import SYNC_ALL_FROM, sync_file_system, sync_path, write_file
from provisioner.system.home import DIRECTORY_MODE

OWNERS = "owners"
_STAGES = (("live", False), ("archive", True))
_ID = "01234567-89ab-cdef-0123-456789abcdef"


class OwnedFiles:
    """See `provisioner.engines.protocol.engine.Engine`."""

    def record_owners(self, instance: Instance, owners: Sequence[Owner], *, durable: bool) -> Failures:
        return record(instance.location, owners, durable=durable)

    def find(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> dict[DatabaseId, StoredDatabase]:
        found = (find(instance.location, each) for each in database_ids)
        return {there.database_id: there for there in found if there is not None}

    def lost(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> set[DatabaseId]:
        return lost(instance.location, database_ids)

    def claims(self, instance: Instance, keys: Collection[str]) -> dict[str, StoredDatabase]:
        return claims(instance.location, keys)

    def stored(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[StoredDatabase]:
        try:
            return stored(instance.location, known)
        except OSError as error:
            raise StorageFailed(f"cannot search {instance.location}: {reason(error)}") from error

    def mark(self, instance: Instance, home_id: str) -> None:
        try:
            instance_mark.write(instance.location, InstanceMark(home_id, instance.id, instance.slug, instance.engine))
        except OSError as error:
            raise StorageFailed(f"cannot write to {instance.location}: {reason(error)}") from error

    def marked(self, instance: Instance, home_id: str) -> InstanceMark | None:
        return instance_mark.read(instance.location)


def record(location: str, owners: Sequence[Owner], *, durable: bool) -> Failures:
    """Write whose these databases are, where there is any data of theirs; on disk when it returns if it is to be `durable`."""
    failures: Failures = {}
    written: list[str] = []
    for owner in owners:
        try:
            there = find(location, owner.database_id)
            if there is not None:
                _record(location, there.where, owner)
                written.append(there.where)
        except OSError as error:
            failures[owner.database_id] = reason(error)
    try:
        if owners:
            instance_mark.write(location, owners[0].instance)
        if durable:
            _sync(location, written)
    except OSError as error:
        failures |= dict.fromkeys((owner.database_id for owner in owners), reason(error))
    return failures


def claims(location: str, keys: Iterable[str]) -> dict[str, StoredDatabase]:
    """By the key of its timeline, the database that is there and says that it is this timeline's."""
    found = {}
    for key in keys:
        with suppress(OSError):
            there = find(location, DatabaseId(os.readlink(os.path.join(location, OWNERS, key))))
            # a power cut may have left the link alone
            if there is not None and (there.owner is None or there.owner.key == key):
                found[key] = there
    return found


def find(location: str, database_id: DatabaseId) -> StoredDatabase | None:
    """A database, live or archived; None if it is not there."""
    for stage, archived in _STAGES:
        directory = os.path.join(location, stage, database_id)
        if os.path.isdir(directory):
            return _stored(database_id, archived, directory)
    return None


def lost(location: str, database_ids: Iterable[DatabaseId]) -> set[DatabaseId]:
    """Those that are in no stage, on a disk that is there. Raises StorageFailed."""
    _listed(location)
    stages = (*(stage for stage, _ in _STAGES), "trash")
    return {
        each
        for each in database_ids
        if not any(os.path.lexists(os.path.join(location, stage, each)) for stage in stages)
    }


def _stored(database_id: DatabaseId, archived: bool, directory: str) -> StoredDatabase:
    owner = Owner.parse(read_text(os.path.join(directory, OWNER_NAME)))
    copied = owner is not None and owner.database_id != database_id  # with its record: that is of the other one
    return StoredDatabase(database_id, archived, directory, None if copied else owner)


def stored(location: str, known: Callable[[], Collection[str]]) -> list[StoredDatabase]:
    """The databases there that are not `known`; not what a power cut has left of one that was never connected.

    Raises StorageFailed, OSError.
    """
    listed = _listed(location)
    ids = set(known())  # asked last: a row is written before its directory is made
    found = []
    for stage, archived in _STAGES:
        for name in listed[stage]:
            if len(name) != len(_ID) or name in ids:
                continue
            directory = os.path.join(location, stage, name)
            item = _stored(DatabaseId(name), archived, directory)
            if item.owner is not None or not is_empty(directory):
                found.append(item)
    return found


def forget(location: str, directory: str) -> None:
    """The database in this directory is about to be deleted: its timeline has it no more. Raises OSError."""
    owner = Owner.parse(read_text(os.path.join(directory, OWNER_NAME)))
    if owner is not None:
        _unlink(location, owner)


def carry_over(old: str, new: str) -> None:
    """What takes the place of a database's data is the same timeline's. Raises OSError."""
    path = os.path.join(new, OWNER_NAME)
    if (text := read_text(os.path.join(old, OWNER_NAME))) and not os.path.exists(path):
        write_file(path, text.encode())
        sync_path(path)
        sync_path(new)


def _record(location: str, directory: str, owner: Owner) -> None:
    path = os.path.join(directory, OWNER_NAME)
    in_place.overwrite_new_files(os.path.dirname(file_in(directory)))  # of databases that older versions have made
    before = read_text(path)
    if before != owner.text():
        data = owner.text().encode()
        if before or os.path.lexists(path):
            _replace(path, data)
        else:
            write_file(path, data)
        known = Owner.parse(before)
        if known is not None and known.key != owner.key:
            _unlink(location, known)
    _link(location, owner)


def _replace(path: str, data: bytes) -> None:
    """Atomically; not synced."""
    beside = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(beside)
    write_file(beside, data)
    os.rename(beside, path)


def _link(location: str, owner: Owner) -> None:
    path = os.path.join(location, OWNERS, owner.key)
    try:
        os.symlink(owner.database_id, path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=DIRECTORY_MODE, exist_ok=True)
        os.symlink(owner.database_id, path)
    except FileExistsError:
        if os.readlink(path) != owner.database_id:
            beside = f"{path}.{owner.database_id}"
            with suppress(FileNotFoundError):
                os.unlink(beside)
            os.symlink(owner.database_id, beside)
            os.rename(beside, path)


def _unlink(location: str, owner: Owner) -> None:
    path = os.path.join(location, OWNERS, owner.key)
    with suppress(FileNotFoundError):
        if os.readlink(path) == owner.database_id:
            os.unlink(path)


def _listed(location: str) -> dict[str, list[str]]:
    """What is in the stages of a disk that is there: even an empty one has them. Raises StorageFailed."""
    try:
        return {stage: os.listdir(os.path.join(location, stage)) for stage, _ in _STAGES}
    except OSError as error:
        raise StorageFailed(
            f"the databases of {location} are missing: {reason(error)}", "Mount its disk, or put the directory back"
        ) from error


def _sync(location: str, directories: Sequence[str]) -> None:
    if len(directories) >= SYNC_ALL_FROM and sync_file_system(location):
        return
    for directory in directories:
        sync_path(os.path.join(directory, OWNER_NAME))
        sync_path(directory)
    if directories:
        sync_path(os.path.join(location, OWNERS))
