"""The deno-kv engine on SQLite: every database has its own directory, named by its id.

    <location>/new/<0|1>/<id>/  being built
    <location>/spare/<any>/     built before it is needed
    <location>/live/<id>/       kv.sqlite3: what apps open; see layout.py
    <location>/archive/<id>/    the branch is gone, the data is kept
    <location>/trash/<id>/      being deleted
    <location>/snapshots/<id>/  the database as it was, a directory for each time
    <location>/owners/          whose each database is; see owner_files.py

A directory, because a database in WAL mode is up to three files that belong together: one rename moves them all, also
under a process that has them open, which continues in the same database. And because an app that was started with the
path of a database that is no longer there gets an error from SQLite instead of a new, empty file. The id, because a
path then survives the renaming of a branch and means the same on disks that fold case.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from provisioner.core.connection import FileLocation, KvEndpoint, Location, PostgresEndpoint
from provisioner.core.errors import StorageFailed, UsageError
from provisioner.core.ids import DatabaseId, ShareId, SnapshotId
from provisioner.core.model import Database, Instance
from provisioner.engines.files import copies, prewarmed, staging
from provisioner.engines.files.finalize import seal
from provisioner.engines.files.layout import FILE_NAME, database_path, file_in, measured
from provisioner.engines.files.orphans import sweep
from provisioner.engines.files.owner_files import OWNERS, OwnedFiles, forget
from provisioner.engines.files.preflight import look, probe
from provisioner.engines.files.staging import reason
from provisioner.engines.protocol.engine import (
    CopyResult,
    Failures,
    HealthCheck,
    Inspection,
    ReplicationStatus,
    Source,
    StorageTarget,
    UsageLimits,
)
from provisioner.kv.stores.sqlite.schema import why_not_a_database
from provisioner.system import failpoints
from provisioner.system.atomic_file import sync_path
from provisioner.system.home import DIRECTORY_MODE

STAGES = ("new", "new/0", "new/1", "spare", "live", "archive", "trash", OWNERS)


class DenoKv(OwnedFiles):
    """See `provisioner.engines.protocol.engine.Engine`."""

    first = "Deno.openKv() opens the databases of"
    has_keys = True
    kept_in = "file"
    dumps = None
    apart = ""
    anew = (
        "Its file has a new path, so restart programs that use it. Programs that have it open continue with the old data; their"
        " writes are in that snapshot"
    )

    def locate(self, where: StorageTarget, directory: str, known: Instance | None = None) -> tuple[Location, str]:
        if any(said is not None for said in (where.url, where.ca_cert, where.sslmode, where.password)):
            raise UsageError(
                "this instance stores in a directory, not on a server",
                "Add one that does: provisioner instance add NAME --engine deno-kv --url URL",
            )
        if where.require_quorum:
            raise UsageError("--require-quorum needs a server, and this instance is a directory", "Omit it")
        return FileLocation(os.path.realpath(where.directory or (known.location if known else directory))), ""

    def same_place(self, one: Instance, other: Instance) -> bool:
        return os.path.realpath(one.location) == os.path.realpath(other.location)

    def kept(self, instance: Instance) -> ReplicationStatus | None:
        return None

    def limits(self, instance: Instance) -> UsageLimits | None:
        return None

    def end_overlong(self, instance: Instance) -> list[str]:
        return []

    def look(self, instance: Instance) -> HealthCheck:
        return look(instance.location)

    def renew(self, instance: Instance, database: Database, shares: Sequence[ShareId]) -> None:
        """Tokens are looked up by the server at each use."""

    def start(self, location: Location) -> None:
        """Files need no server."""

    def stop(self, location: Location) -> bool:
        raise StorageFailed("a deno-kv instance consists of files and has no server")

    def separate(self, location: Location) -> str:
        return ""

    def settle_in(self, location: Location) -> None:
        """Nothing is kept elsewhere."""

    def close(self) -> None:
        """Nothing is kept between calls."""

    def prepare(self, instance: Instance) -> None:
        try:
            for stage in STAGES:
                os.makedirs(os.path.join(instance.location, stage), mode=DIRECTORY_MODE, exist_ok=True)
            os.chmod(instance.location, DIRECTORY_MODE)
        except OSError as error:
            raise StorageFailed(
                f"cannot store databases in {instance.location}: {error.strerror}",
                "Make the directory writable for this user",
            ) from error

    def test(self, instance: Instance) -> Iterable[HealthCheck]:
        return probe(instance.location, STAGES)

    def ensure(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        failures: Failures = {}
        new: list[DatabaseId] = []
        moved = False
        ready = prewarmed.listing(instance.location) if any(item.connected_at is None for item in databases) else []
        for database in databases:
            live = self._place(instance, "live", database.id)
            try:
                if os.path.isdir(live):
                    self._check(instance, database)
                    moved = moved or database.connected_at is None  # it is unknown whether that move was synced
                elif os.path.isdir(self._place(instance, "archive", database.id)):
                    self._move(instance, database.id, "archive", "live")
                    moved = True
                elif database.connected_at is not None:
                    failures[database.id] = (
                        f"its data is missing: neither {live} nor an archived copy"
                        " exists, and an empty database will not take its place. Put the directory back"
                    )
                elif prewarmed.take(instance.location, ready, live):
                    moved = True
                else:
                    new.append(database.id)
            except OSError as error:
                failures[database.id] = reason(error)
            except StorageFailed as error:
                failures[database.id] = str(error)
        failures |= staging.build_all({database_id: self._place(instance, "new", database_id) for database_id in new})
        new = [database_id for database_id in new if database_id not in failures]
        if new or moved:
            failures |= self._settle(instance, new, [database.id for database in databases])
        return failures

    def stock(self, instance: Instance, wanted: int) -> bool:
        try:
            return prewarmed.stock(instance.location, wanted)
        except OSError as error:
            raise StorageFailed(
                f"cannot create spare databases in {instance.location}: {reason(error)}", "They are created when needed"
            ) from error

    def fork(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        return copies.fork(instance.location, database.id, source)

    def build(self, instance: Instance, database: Database, source: Source | None, *, with_queue: bool) -> CopyResult:
        return copies.build_beside(instance.location, database.id, source, with_queue=with_queue)

    def copy_beside(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        beside = self._place(instance, "new", database.id)
        return copies.copy_of(instance.location, source, beside, with_queue=False)

    def beside(self, instance: Instance, database: Database) -> KvEndpoint | PostgresEndpoint:
        return KvEndpoint(file_in(self._place(instance, "new", database.id)))

    def script(self, beside: KvEndpoint | PostgresEndpoint, path: str) -> list[str]:
        assert isinstance(beside, KvEndpoint)  # noqa: S101 - its own
        return [
            sys.executable,
            "-I",
            os.path.join(os.path.dirname(os.path.dirname(__file__)), "scripts", "sqlite.py"),
            beside.path,
            path,
        ]

    def seal(self, instance: Instance, database: Database) -> None:
        seal(self._place(instance, "new", database.id))

    def swap(self, instance: Instance, database: Database, kept_as: SnapshotId) -> int | None:
        return copies.swap(instance.location, database.id, kept_as)

    def discard(self, instance: Instance, database: Database) -> None:
        copies.discard(instance.location, database.id)

    def copy_out(self, instance: Instance, database: Database, directory: str) -> tuple[str, CopyResult]:
        source = copies.data_of(instance.location, Source(database))
        copied, damage = copies.copy(source, directory, with_queue=True)
        return os.path.join(directory, FILE_NAME), replace(copied, damage=damage)

    def snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> CopyResult:
        return copies.take_snapshot(instance.location, database, snapshot_id)

    def snapshot_file(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> str | None:
        return os.path.join(copies.data_of(instance.location, Source(database, snapshot_id)), FILE_NAME)

    def delete_snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> None:
        copies.delete_snapshot(instance.location, database.id, snapshot_id)

    def archive(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        return self._move_all(instance, databases, "live", "archive")

    def purge(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        failures: Failures = {}
        for database in databases:
            if os.path.isdir(live := self._place(instance, "live", database.id)):
                failures[database.id] = f"it is in use, though the registry has it as archived: {live} is there"
                continue
            try:
                for stage in ("archive", "new"):
                    forget(instance.location, self._place(instance, stage, database.id))
                    if os.path.isdir(self._place(instance, stage, database.id)):
                        self._move(instance, database.id, stage, "trash")
                failpoints.point("purge.moved")
                trash = self._place(instance, "trash", database.id)
                if os.path.isdir(trash):
                    shutil.rmtree(trash)
                snapshots = self._place(instance, copies.SNAPSHOTS, database.id)
                if os.path.isdir(snapshots):
                    os.rename(snapshots, trash)
                    shutil.rmtree(trash)
                failpoints.point("purge.removed")
            except OSError as error:
                failures[database.id] = reason(error)
        return failures

    def retire(self, instance: Instance) -> None:
        """Nothing is left where the databases were."""

    def sweep(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[str]:
        try:
            return sweep(instance.location, known)
        except OSError as error:
            raise StorageFailed(f"cannot search {instance.location}: {reason(error)}") from error

    def problems(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        failures: Failures = {}
        stages = {True: os.path.join(instance.location, "live"), False: os.path.join(instance.location, "archive")}
        for database in databases:
            if problem := why_not_a_database(file_in(f"{stages[database.live]}/{database.id}")):
                failures[database.id] = problem
        return failures

    def deep_damage(self, instance: Instance, source: Source, on: Callable[[], None]) -> str:
        from provisioner.kv.stores.sqlite.page_check import deep_damage  # imports SQLite, which hooks would wait for

        path = file_in(copies.data_of(instance.location, source))
        try:
            return deep_damage(path, on)
        except OSError as error:
            return f"{path} cannot be read: {reason(error)}"

    def inspect(self, instance: Instance, database: Database) -> Inspection:
        directory = self._directory(instance, database)
        try:
            return Inspection(*measured(directory))
        except OSError:
            return Inspection(file_in(directory), None)

    def _directory(self, instance: Instance, database: Database) -> str:
        return self._place(instance, "live" if database.live else "archive", database.id)

    def _place(self, instance: Instance, stage: str, database_id: DatabaseId) -> str:
        return copies.place(instance.location, stage, database_id)

    def _check(self, instance: Instance, database: Database) -> None:
        path = database_path(instance.location, database.id)
        if problem := why_not_a_database(path):
            raise StorageFailed(
                f"{path} {problem}", "Restore the file; provisioner never replaces it with an empty one"
            )

    def _settle(self, instance: Instance, new: list[DatabaseId], asked: list[DatabaseId]) -> Failures:
        """Sync what was built, move it to its place and sync that: only then is it called done."""
        failures: Failures = {}
        live = os.path.join(instance.location, "live")
        try:
            prewarmed.sync(instance.location, [self._place(instance, "new", database_id) for database_id in new])
            failpoints.point("provision.written")
            for database_id in new:
                os.rename(self._place(instance, "new", database_id), self._place(instance, "live", database_id))
            failpoints.point("provision.renamed")
            sync_path(live)
        except OSError as error:  # it is unknown which one of the batch failed: none of them is connected
            failures = dict.fromkeys(asked, reason(error))
        return failures

    def _move_all(self, instance: Instance, databases: Sequence[Database], source: str, target: str) -> Failures:
        failures: Failures = {}
        for database in databases:
            try:
                if os.path.isdir(self._place(instance, source, database.id)):
                    self._move(instance, database.id, source, target)
                elif database.connected_at is not None and not os.path.isdir(
                    self._place(instance, target, database.id)
                ):
                    failures[database.id] = f"its data is missing: {self._place(instance, source, database.id)}"
            except OSError as error:
                failures[database.id] = reason(error)
        try:
            for stage in (source, target):
                sync_path(os.path.join(instance.location, stage))
        except OSError as error:
            failures = dict.fromkeys((database.id for database in databases), reason(error))
        return failures

    def _move(self, instance: Instance, database_id: DatabaseId, source: str, target: str) -> None:
        """Rename a database's directory. Fails where the target holds anything, so nothing is ever overwritten."""
        os.rename(self._place(instance, source, database_id), self._place(instance, target, database_id))
        failpoints.point("recover.moved" if target == "live" else "archive.moved")
