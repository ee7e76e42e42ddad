"""Replacing the data of databases: started by a person, finished or undone here.

Databases stay in use while their replacements are built, which may take as long as the disk does; only the command waits
for that. From ``ready`` on, which all databases of one command become in one transaction, they are finished whatever
happens.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.core.ids import SnapshotId
from provisioner.core.model import (
    App,
    Archived,
    Connected,
    Database,
    Intent,
    Provisioning,
    Purged,
    Replacement,
    Scrub,
    Snapshot,
    SnapshotState,
    StepFailure,
    Unusable,
)
from provisioner.engines.protocol.engine import CopyResult, Source
from provisioner.reconcile.apply.isolation import problem_of
from provisioner.reconcile.apply.locks import app_locked, database_if_free, database_locked
from provisioner.reconcile.changes.move_recovery import settle_move
from provisioner.reconcile.changes.scrub import scrubbed
from provisioner.reconcile.changes.snapshots import row_of, settle_snapshots, storage
from provisioner.registry import snapshots
from provisioner.registry.store import Registry
from provisioner.system import failpoints

RETRY_MS = 10_000


@dataclass(frozen=True, slots=True)
class ReplacementData:
    """What a database is to hold instead: a copy of the source that has passed `scrub`, or nothing; or what `build` builds
    beside it. `detail` is for the audit log."""

    database: Database
    source: Source | None
    detail: str
    scrub: Scrub | None = None
    build: Callable[[], CopyResult] | None = None


@dataclass(frozen=True, slots=True)
class Replaced:
    """A database that holds other data now, and the id of the snapshot that its old data became; None if none was there."""

    database: Database
    made: CopyResult
    kept_as: SnapshotId | None


def put_in_place(
    registry: Registry,
    app: App,
    changes: Sequence[ReplacementData],
    now: int,
    *,
    action: str,
    with_queue: bool = False,
    deploy: bool = True,
) -> list[Replaced]:
    """Replace the data of connected databases: of all of them, or of none if one of the replacements cannot be built.

    `action` is what it is called in the audit log, and the cause of the snapshots. `deploy`: the pre-deploy command is run
    again on their timelines. Raises StorageFailed, Busy, NotScrubbed where a copy did not pass its scrub command, and
    ProvisionerError where a database is not connected; then all data is as it was, unless the replacements were ready:
    those are finished by the next reconcile.
    """
    with ExitStack() as locks:
        for change in sorted(changes, key=lambda item: item.database.id):
            locks.enter_context(database_locked(registry, change.database))
        begun = [_begun(change.database, action, change.detail, now, deploy) for change in changes]
        begun = [replace(item, set_id=begun[0].kept_as) for item in begun]
        with app_locked(registry, app):
            _settle_left(registry, app, [change.database for change in changes], now)
            for change in changes:
                _must_have_data(registry, change.database)
                if change.source is not None:
                    _must_be_beside(registry, change.database, change.source.database)
            with registry.change(synced=False):  # cut off with the power, what was built waits for the next attempt
                for item in begun:
                    snapshots.save_replacement(registry, item)
        failpoints.point("replace.intended")
        ready = False
        try:
            made = [_built(registry, app, change, with_queue=with_queue) for change in changes]
            with app_locked(registry, app):
                current = [_must_have_data(registry, change.database) for change in changes]
                begun = [_ready(*each, now) for each in zip(begun, changes, current, made, strict=True)]
                with registry.change():
                    for item in begun:
                        snapshots.save_replacement(registry, item)
                    registry.save_databases(item.with_intent(Intent.REPLACE).retried_at_once() for item in current)
                ready = True
                failpoints.point("replace.ready")
                _finish_all(registry, begun, now)
        except ProvisionerError:
            if not ready:
                for item in begun:
                    with suppress(StorageFailed):  # the next reconcile undoes it
                        _undo(registry, item, now)
            raise
    kept = {item.id for change in changes for item in snapshots.snapshots(registry, change.database.id)}
    return [
        Replaced(change.database, copied, item.kept_as if item.kept_as in kept else None)
        for change, copied, item in zip(changes, made, begun, strict=True)
    ]


def _begun(database: Database, action: str, detail: str, now: int, deploy: bool) -> Replacement:
    kept_as = SnapshotId(str(uuid.uuid4()))
    return Replacement(database.id, action, detail, kept_as, False, None, None, None, now, deploy=deploy)


def _settle_left(registry: Registry, app: App, databases: Sequence[Database], now: int) -> None:
    """Finish or undo the replacements of these databases, whose locks are held: their process has ended."""
    for database in databases:
        settle_move(registry, app, database.id, now)
    for left in snapshots.replacements_of(registry, [database.id for database in databases]):
        _settle(registry, left, now)


def _built(registry: Registry, app: App, change: ReplacementData, *, with_queue: bool) -> CopyResult:
    engine, instance = storage(registry, change.database)
    build = change.build or (lambda: engine.build(instance, change.database, change.source, with_queue=with_queue))
    made = scrubbed(registry, app, change.database, change.scrub, build)
    failpoints.point("replace.built")
    return made


def _ready(begun: Replacement, change: ReplacementData, current: Database, made: CopyResult, now: int) -> Replacement:
    source = change.source
    if source is None:
        return replace(begun, ready=True)
    if source.database.id != current.id:
        return replace(begun, ready=True, forked_from=source.database.id, forked_at=now, fork_version=made.version)
    return replace(  # its own past: it stays what it was a fork of
        begun,
        ready=True,
        forked_from=current.forked_from,
        forked_at=current.forked_at,
        fork_version=current.fork_version,
    )


def _finish_all(registry: Registry, begun: Sequence[Replacement], now: int) -> None:
    """Finish each, also if one of them fails: that one is finished later."""
    failures = []
    for item in begun:
        try:
            _finish(registry, item, now)
        except StorageFailed as error:
            failures.append(error)
            _put_off(registry, item, error, now)
    if failures:
        raise failures[0]


def settle(registry: Registry, app: App, now: int) -> list[str]:
    """Finish or undo the steps of an ended process. Returns the failures. The caller holds the app's lock."""
    problems = []
    for begun in snapshots.replacements(registry, app.id):
        with database_if_free(registry, begun.database_id) as free:
            if free and (why := problem_of(partial(_settle, registry, begun, now))):
                problems.append(
                    f"database {row_of(registry, begun.database_id).name}, whose data was being replaced: {why}"
                )
    return problems + settle_snapshots(registry, app, now)


def _settle(registry: Registry, begun: Replacement, now: int) -> None:
    try:
        if begun.ready:
            _finish(registry, begun, now)
        else:
            _undo(registry, begun, now)
    except StorageFailed as error:
        _put_off(registry, begun, error, now)


def _put_off(registry: Registry, begun: Replacement, error: StorageFailed, now: int) -> None:
    """Say in the database's status why its replacement is neither finished nor undone; that is tried again."""
    database = row_of(registry, begun.database_id)
    later = now + RETRY_MS
    failure = StepFailure(str(error), database.attempts + 1, later)
    failed = database.with_failure(failure)
    if begun.ready:
        failed = replace(failed, state=Unusable(failure, Intent.REPLACE, database.hold))
    with registry.change():
        registry.save_databases([failed])
        registry.audit_database(now, "database.error", database, str(error), cause=begun.action)


def _finish(registry: Registry, begun: Replacement, now: int) -> None:
    """Swap the data, and record it. The caller holds the locks of app and database."""
    database = row_of(registry, begun.database_id)
    engine, instance = storage(registry, database)
    size = engine.swap(instance, database, begun.kept_as)
    timeline = registry.timeline(database.timeline_id)
    kept = Snapshot(
        *(begun.kept_as, database.id, "", begun.action, timeline.revision, SnapshotState.KEPT, None, size, now, None),
        set_id=begun.set_id,
    )
    done = replace(
        database.connected(now),
        forked_from=begun.forked_from,
        forked_at=begun.forked_at,
        fork_version=begun.fork_version,
    )
    with registry.change():
        registry.save_databases([done])
        if size is not None:
            snapshots.save_snapshot(registry, kept)
        snapshots.end_replacement(registry, begun)
        snapshots.mark_changed(registry, begun.database_id, deploy=begun.deploy)
        registry.audit_database(now, f"database.{begun.action}", database, begun.detail)
    failpoints.point("replace.recorded")


def _undo(registry: Registry, begun: Replacement, now: int) -> None:
    database = row_of(registry, begun.database_id)
    engine, instance = storage(registry, database)
    engine.discard(instance, database)
    with registry.change():
        snapshots.end_replacement(registry, begun)
        registry.audit_database(now, f"database.{begun.action}-undone", database, begun.detail)


def _must_have_data(registry: Registry, database: Database) -> Database:
    """Connected, or it was and its data was found lost or damaged."""
    current = row_of(registry, database.id)
    match current.state:
        case Connected(intent=None):
            return current
        case Unusable(intent=None | Intent.PROVISION) if current.connected_at is not None:
            return current
        case Connected(intent=busy):
            state = f"busy ({busy})"
        case Provisioning() | Unusable() | Archived() | Purged():
            state = str(current.status)
        case _:
            assert_never(current.state)
    raise ProvisionerError(
        f"database {current.name} is {state}, not connected",
        f"See: provisioner database show {current.name}",
    )


def _must_be_beside(registry: Registry, database: Database, source: Database) -> None:
    goal, origin = row_of(registry, database.id), row_of(registry, source.id)
    if goal.moved != origin.moved:
        slug = registry.instance_of(goal.instance_id).slug
        raise ProvisionerError(
            f"{origin.name} and {goal.name} are in two locations, because instance {slug} is being moved",
            f"Try again after the move. To continue it, run: provisioner instance move {slug}",
        )
