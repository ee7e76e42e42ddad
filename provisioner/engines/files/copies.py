"""Copies of a deno-kv database: forks, snapshots, and replacing the live database with one.

<location>/snapshots/<id>/<snapshot>/  kv.sqlite3 as it was; written to only by who had read it when it was replaced
"""

from __future__ import annotations

import os
import shutil

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId, SnapshotId
from provisioner.core.model import Database
from provisioner.engines.files.layout import FILE_NAME, lay_out, size_of
from provisioner.engines.files.owner_files import carry_over
from provisioner.engines.files.staging import make_anew, reason, staging
from provisioner.engines.protocol.engine import CopyResult, Source
from provisioner.kv.errors import KvError
from provisioner.kv.stores.sqlite.schema import empty_file
from provisioner.system import failpoints, in_place
from provisioner.system.atomic_file import sync_path, write_file
from provisioner.system.home import DIRECTORY_MODE

SNAPSHOTS = "snapshots"
_AHEAD = 1 << 20  # versions; more than are written while a replacement is built
_READ_ANYWAY = 4  # times as much is checked of a copy that was written, and not shared with its source


def place(location: str, stage: str, data_id: DatabaseId | SnapshotId) -> str:
    return os.path.join(location, staging(data_id) if stage == "new" else stage, data_id)


def snapshot_place(location: str, database_id: DatabaseId, snapshot_id: SnapshotId) -> str:
    return os.path.join(location, SNAPSHOTS, database_id, snapshot_id)


def data_of(location: str, source: Source) -> str:
    """The directory that holds the data, of a database live or archived. Raises StorageFailed where there is none."""
    name = f"database {source.database.name}"
    if source.snapshot_id is not None:
        places = [snapshot_place(location, source.database.id, source.snapshot_id)]
        name = f"snapshot {source.snapshot_id} of {name}"
    else:
        places = [place(location, stage, source.database.id) for stage in ("live", "archive")]
    for found in places:
        if os.path.isdir(found):
            return found
    raise StorageFailed(f"the data of {name} is missing: neither of {', '.join(places)} is there", "Put it back")


def fork(location: str, database_id: DatabaseId, source: Source) -> CopyResult:
    """Make a database that never held data as a copy. Raises StorageFailed."""
    from provisioner.kv.stores.sqlite.clone import version_of

    live = place(location, "live", database_id)
    try:
        if os.path.isdir(live):  # interrupted at the very end; no program was connected since
            file = os.path.join(live, FILE_NAME)
            made = CopyResult(version_of(file), os.path.getsize(file), 0.0)
        else:
            beside = place(location, "new", database_id)
            made = copy_of(location, source, beside, with_queue=False)
            failpoints.point("fork.copied")
            os.rename(beside, live)
        failpoints.point("fork.moved")
        sync_path(os.path.dirname(live))
    except KvError as error:
        raise StorageFailed(str(error)) from error
    except OSError as error:
        raise StorageFailed(f"cannot create {live}: {reason(error)}") from error
    return made


def build_beside(location: str, database_id: DatabaseId, source: Source | None, *, with_queue: bool) -> CopyResult:
    """What is to replace a database's data. Raises StorageFailed.

    Versionstamps keep growing: a program may still hold one of the old data, to check a key by it.
    """
    from provisioner.kv.stores.sqlite.clone import advance

    beside = place(location, "new", database_id)
    beyond = _version_of_live(location, database_id) + _AHEAD
    if source is not None:
        return copy_of(location, source, beside, with_queue=with_queue, replaces=True, beyond=beyond)
    try:
        make_anew(beside)
        file = lay_out(beside)
        write_file(file, empty_file())
        in_place.overwrite_new_files(os.path.dirname(file))
        advance(file, beyond)
        sync_path(os.path.dirname(file))
        sync_path(beside)
        return CopyResult(0, os.path.getsize(file), 0.0)
    except KvError as error:
        raise StorageFailed(str(error)) from error
    except OSError as error:
        raise StorageFailed(f"cannot build {beside}: {reason(error)}", "Resolve this, then try again") from error


class Unreadable(StorageFailed):
    """SQLite cannot read the source: it is damaged."""


def copy_of(
    location: str, source: Source, directory: str, *, with_queue: bool, replaces: bool = False, beyond: int = 0
) -> CopyResult:
    """Create `directory`, with a checked copy of the source; synced. Raises StorageFailed, including for a damaged source.

    `replaces`: it is to take the place of another, see layout.py. What an attempt that was cut off has left there is
    removed; after a failure nothing is left.
    """
    try:
        made, problem = copy(
            data_of(location, source), directory, with_queue=with_queue, replaces=replaces, beyond=beyond
        )
    except Unreadable as error:
        raise damaged(source, str(error)) from error
    if problem:
        shutil.rmtree(directory, ignore_errors=True)
        raise damaged(source, problem)
    return made


def damaged(source: Source, problem: str) -> StorageFailed:
    """The refusal to copy what is damaged, with what to do instead."""
    name = source.database.name
    if source.snapshot_id is not None:
        return StorageFailed(
            f"snapshot {source.snapshot_id} of {name} is damaged: {problem}. Nothing was changed",
            f"Choose another: provisioner database snapshot list {name}",
        )
    return StorageFailed(
        f"database {name} is damaged: {problem}. Nothing was changed",
        f"Restore a snapshot of it: provisioner database snapshot list {name}. Read all of them: provisioner doctor --deep",
    )


def copy(
    source: str, directory: str, *, with_queue: bool, replaces: bool = False, beyond: int = 0
) -> tuple[CopyResult, str]:
    """Make `directory`, with a copy of the database in the directory `source`; synced. What is found to be wrong with the
    copy, quickly; empty if nothing is. Raises StorageFailed, and then leaves nothing."""
    from provisioner.kv.stores.sqlite.clone import clone  # imports SQLite, which hooks would wait for
    from provisioner.kv.stores.sqlite.errors import is_damage
    from provisioner.kv.stores.sqlite.page_check import WHOLE, damage

    try:
        make_anew(directory)
        target = lay_out(directory) if replaces else os.path.join(directory, FILE_NAME)
        in_place.overwrite_new_files(os.path.dirname(target))
        made = clone(os.path.join(source, FILE_NAME), target, with_queue=with_queue, beyond=beyond)
        if replaces:
            sync_path(os.path.dirname(target))
        sync_path(directory)
        problem = damage(target, whole=WHOLE if made.shared else WHOLE * _READ_ANYWAY)
        return CopyResult(made.version, os.path.getsize(target), made.paused), problem
    except KvError as error:
        shutil.rmtree(directory, ignore_errors=True)
        kind = Unreadable if is_damage(error) else StorageFailed
        raise kind(f"cannot copy {source}: {error}") from error
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise StorageFailed(f"cannot copy {source}: {reason(error)}", "Resolve this, then try again") from error


def take_snapshot(location: str, database: Database, snapshot_id: SnapshotId) -> CopyResult:
    """A copy with everything in it, in its place when it is whole. Raises StorageFailed."""
    beside = beside_snapshot(location, snapshot_id)
    made = copy_of(location, Source(database), beside, with_queue=True)
    target = snapshot_place(location, database.id, snapshot_id)
    try:
        _make_room(location, database.id)
        os.rename(beside, target)
        failpoints.point("snapshot.made")
        sync_path(os.path.dirname(target))
    except OSError as error:
        raise StorageFailed(f"cannot keep a snapshot as {target}: {reason(error)}") from error
    return made


def delete_snapshot(location: str, database_id: DatabaseId, snapshot_id: SnapshotId) -> None:
    """Delete its data, or what there is of it. Raises StorageFailed."""
    trash = place(location, "trash", snapshot_id)
    try:
        for left in (snapshot_place(location, database_id, snapshot_id), beside_snapshot(location, snapshot_id)):
            if os.path.isdir(left):
                _remove(trash)
                os.rename(left, trash)
        failpoints.point("snapshot.removed")
        _remove(trash)
    except OSError as error:
        raise StorageFailed(f"cannot delete snapshot {snapshot_id} in {location}: {reason(error)}") from error


def swap(location: str, database_id: DatabaseId, kept_as: SnapshotId) -> int | None:
    """Replace the live database with the new one; the live one becomes a snapshot. Returns its size in bytes, None
    where there was nothing to keep.

    Called again, it continues after an interruption. A program that has read the old file continues with it; one that has
    only opened it gets an error from SQLite, see layout.py. Raises StorageFailed.
    """
    live, new = place(location, "live", database_id), place(location, "new", database_id)
    kept = snapshot_place(location, database_id, kept_as)
    try:
        _make_room(location, database_id)
        if os.path.isdir(new) and os.path.isdir(live):
            carry_over(live, new)
            os.rename(live, kept)
        failpoints.point("replace.kept")
        if os.path.isdir(new):
            os.rename(new, live)
        failpoints.point("replace.moved")
        sync_path(os.path.dirname(kept))  # first, so that the old data survives a power cut
        sync_path(os.path.dirname(live))
        return size_of(kept) if os.path.isdir(kept) else None
    except OSError as error:
        raise StorageFailed(f"cannot replace {live} with {new}: {reason(error)}", "Resolve this") from error


def discard(location: str, database_id: DatabaseId) -> None:
    """Remove what was built beside."""
    try:
        _remove(place(location, "new", database_id))
    except OSError as error:
        raise StorageFailed(f"cannot remove what was built for {database_id}: {reason(error)}") from error


def beside_snapshot(location: str, snapshot_id: SnapshotId) -> str:
    """The path at which a snapshot is built. Its name differs from a database's, so that the sweep does not take it for one."""
    return place(location, "new", snapshot_id).removesuffix(snapshot_id) + f"snapshot-{snapshot_id}"


def _version_of_live(location: str, database_id: DatabaseId) -> int:
    """0 where it cannot be read: a damaged database is among what people replace."""
    from provisioner.kv.stores.sqlite.clone import version_of

    try:
        return version_of(os.path.join(place(location, "live", database_id), FILE_NAME))
    except KvError:
        return 0


def _make_room(location: str, database_id: DatabaseId) -> None:
    directory = os.path.join(location, SNAPSHOTS, database_id)
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
        sync_path(os.path.dirname(directory))
        sync_path(location)


def _remove(directory: str) -> None:
    if os.path.isdir(directory):
        shutil.rmtree(directory)
