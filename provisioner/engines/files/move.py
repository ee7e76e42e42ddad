"""Moving databases to and from SQLite files.

<location>/moved/<id>-<random>/  live/, archive/, snapshots/: as they were, fenced; no database uses them any longer
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import SnapshotId
from provisioner.core.model import Database, Instance, Status
from provisioner.engines.files import copies
from provisioner.engines.files.layout import file_in, lay_out
from provisioner.engines.files.staging import make_anew, reason
from provisioner.engines.protocol.engine import Source
from provisioner.engines.protocol.move import mark
from provisioner.kv.errors import KvError
from provisioner.kv.stores.sqlite.bulk_copy import SqliteBulkTarget
from provisioner.kv.stores.sqlite.schema import empty_file
from provisioner.system import failpoints, in_place
from provisioner.system.atomic_file import sync_path, write_file
from provisioner.system.home import DIRECTORY_MODE

MOVED = "moved"


class FilesMoveEnd:
    """See `provisioner.engines.protocol.move.MoveEnd`."""

    def alone(self, storage: Instance, other: Instance) -> str:
        one, two = os.path.realpath(storage.location), os.path.realpath(other.location)
        if os.path.commonpath((one, two)) in (one, two) or (os.path.exists(one) and os.path.samefile(one, two)):
            return f"{one} and {two} are not two directories beside each other"
        return ""

    def make(self, storage: Instance, item: Source) -> None:
        beside, there = _beside(storage, item), _place(storage, item)
        with _refusals(f"cannot begin {beside}"):
            _clear(storage, item)
            os.makedirs(os.path.dirname(there), mode=DIRECTORY_MODE, exist_ok=True)
            make_anew(beside)
            file = lay_out(beside)
            write_file(file, empty_file())
            in_place.overwrite_new_files(os.path.dirname(file))

    @contextmanager
    def copy(self, storage: Instance, item: Source) -> Iterator[SqliteBulkTarget]:
        with _refusals("cannot copy"), SqliteBulkTarget(file_in(_beside(storage, item)), quick=True) as found:
            yield found

    def put_in_place(self, storage: Instance, item: Source) -> None:
        beside, there = _beside(storage, item), _place(storage, item)
        with _refusals(f"cannot put {beside} in its place"):
            file = file_in(beside)
            with SqliteBulkTarget(file, quick=True) as found:
                found.shut()
            for path in (file, os.path.dirname(file), beside):
                sync_path(path)
            os.rename(beside, there)
            failpoints.point("move.renamed")
            parent = os.path.dirname(there)
            for path in (parent, os.path.dirname(parent), storage.location):
                sync_path(path)

    def discard(self, storage: Instance, item: Source) -> None:
        with _refusals("cannot remove what was copied"):
            if os.path.isdir(beside := _beside(storage, item)):
                shutil.rmtree(beside)
            _clear(storage, item)

    @contextmanager
    def original(self, storage: Instance, item: Source) -> Iterator[SqliteBulkTarget]:
        path = file_in(copies.data_of(storage.location, item))
        with _refusals("cannot read"), SqliteBulkTarget(path) as found:
            yield found

    def fence(self, storage: Instance, item: Source) -> None:
        with self.original(storage, item) as found:
            found.fence()

    def unfence(self, storage: Instance, database: Database, snapshot_ids: Sequence[SnapshotId]) -> None:
        places = _places(storage, database)
        places += [copies.snapshot_place(storage.location, database.id, item) for item in snapshot_ids]
        for place in filter(os.path.isdir, places):
            with _refusals("cannot unlock"), SqliteBulkTarget(file_in(place)) as found:
                found.unfence()

    def put_away(self, storage: Instance, database: Database) -> None:
        stages = ("live", "archive", "new", copies.SNAPSHOTS)
        places = [copies.place(storage.location, stage, database.id) for stage in stages]
        with _refusals("cannot archive"):
            _aside(storage, database, [place for place in places if os.path.isdir(place)])

    def left(self, storage: Instance) -> tuple[int, str]:
        directory = os.path.join(storage.location, MOVED)
        try:
            return len(os.listdir(directory)), directory
        except OSError:
            return 0, directory

    def forget(self, storage: Instance) -> None:
        with _refusals("cannot delete"):
            if os.path.isdir(directory := os.path.join(storage.location, MOVED)):
                shutil.rmtree(directory)

    def tidy(self, storage: Instance) -> None:
        with _refusals("cannot tidy up"):
            for stage in ("new/0", "new/1", "spare", "trash"):
                directory = os.path.join(storage.location, stage)
                if os.path.isdir(directory):
                    shutil.rmtree(directory)


def _clear(storage: Instance, item: Source) -> None:
    places = [_place(storage, item)] if item.snapshot_id is not None else _places(storage, item.database)
    _aside(storage, item.database, [place for place in places if os.path.isdir(place)])


def _place(storage: Instance, item: Source) -> str:
    if item.snapshot_id is not None:
        return copies.snapshot_place(storage.location, item.database.id, item.snapshot_id)
    stage = "archive" if item.database.status is Status.ARCHIVED else "live"
    return copies.place(storage.location, stage, item.database.id)


def _places(storage: Instance, database: Database) -> list[str]:
    return [copies.place(storage.location, stage, database.id) for stage in ("live", "archive")]


def _beside(storage: Instance, item: Source) -> str:
    if item.snapshot_id is None:
        return copies.place(storage.location, "new", item.database.id)
    return copies.beside_snapshot(storage.location, item.snapshot_id)


def _aside(storage: Instance, database: Database, places: Sequence[str]) -> None:
    if not places:
        return
    directory = os.path.join(storage.location, MOVED, f"{database.id}-{mark()}")
    os.makedirs(directory, mode=DIRECTORY_MODE)
    for place in places:
        os.rename(place, os.path.join(directory, os.path.basename(os.path.dirname(place))))
        sync_path(os.path.dirname(place))
    for path in (directory, os.path.dirname(directory), storage.location):
        sync_path(path)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """What the disk refuses is raised as StorageFailed."""
    try:
        yield
    except OSError as error:
        if isinstance(error, KvError):
            raise StorageFailed(str(error)) from error
        raise StorageFailed(f"{what}: {reason(error)}", "Resolve this, then continue") from error
    except KvError as error:
        raise StorageFailed(str(error)) from error
