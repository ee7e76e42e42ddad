"""Copies with a scrub command, which removes personal data from copies of production before anyone can connect to them.

The command runs on the copy before it is at its final location, where no program can connect to it. Only when it has
succeeded, all of its processes have ended, and the copy is intact, the copy moves to its place.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace

from provisioner.core.clock import now_ms
from provisioner.core.connection import ConnectedDatabase, KvEndpoint, PostgresEndpoint, TimelineConnection, variables
from provisioner.core.errors import LockTimeout, ProvisionerError, StorageFailed, UsageError
from provisioner.core.ids import AppId, DatabaseId, SnapshotId
from provisioner.core.model import NO_SHARE, App, Context, Database, Run, RunState, Scrub, Timeline
from provisioner.core.redaction import Secret
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import CopyResult, Engine, Source
from provisioner.reconcile.apply.locks import app_locked, database_locked
from provisioner.reconcile.apply.ownership import record_new, unmakeable
from provisioner.reconcile.changes.command_access import confined
from provisioner.reconcile.changes.run_records import SCRUB, begun, end
from provisioner.reconcile.plan.retry_delay import failure_of
from provisioner.registry.moves import set_moved
from provisioner.registry.redaction import mask, secrets_of
from provisioner.registry.store import Registry
from provisioner.registry.variables import listing
from provisioner.runs import workplace
from provisioner.runs.process import STOPPED, Command, Stop, failed, run, shell
from provisioner.system import failpoints

_FILES = (".sql", ".py")


class NotScrubbed(ProvisionerError):  # noqa: N818
    """The scrub command failed; no program was connected to the copy."""


def parse(text: str) -> str:
    """A scrub as it is kept: a shell command, or the absolute path of a file of SQL or Python. Raises UsageError."""
    if not text.strip():
        raise UsageError("the scrub command is empty", "To remove it, use --no-scrub")
    if not text.endswith(_FILES):
        return text
    if os.path.isfile(text):
        return os.path.abspath(text)
    if len(text.split()) == 1:
        raise UsageError(f"no file {text}", "Use an existing file, or a command with its arguments")
    return text


def scrubbed(
    registry: Registry,
    app: App,
    database: Database,
    rule: Scrub | None,
    build: Callable[[], CopyResult],
    stop: Stop | None = None,
) -> CopyResult:
    """What `build` builds beside the database, when it has passed `rule`. The caller holds the database's lock.

    Raises NotScrubbed, and what `build` raises; what was built is then for the caller to discard.
    """
    if rule is None:
        return build()
    instance = registry.storage_of(database)
    timeline = registry.timeline(database.timeline_id)
    with begun(registry, timeline, SCRUB, rule.command, database=database) as run_row:
        failpoints.point("scrub.intended")
        made = build()
        engine = engine_of(instance)
        beside = engine.beside(instance, database)
        why = run(registry.home, run_row.id, _command(registry, app, database, rule, run_row, beside), stop or _never)
        failpoints.point("scrub.ran")
        if why == STOPPED:
            raise NotScrubbed("the scrub command was stopped", "It will run again")
        try:
            if not why:
                engine.seal(instance, database)
        except StorageFailed as error:
            why = f"it left no usable database: {error}"
        if why:
            why = mask(registry, app).text(failed(registry.home, run_row.id, "the scrub command", why))
            end(registry, run_row, RunState.FAILED, why)
            raise NotScrubbed(why, "No program was connected to the copy, which was deleted")
        failpoints.point("scrub.sealed")
        end(registry, run_row, RunState.SUCCEEDED, "")
    # what it has changed has no versions that a diff could go by
    return replace(made, version=None)


def _command(
    registry: Registry, app: App, database: Database, rule: Scrub, run_row: Run, beside: KvEndpoint | PostgresEndpoint
) -> Command:
    timeline = registry.timeline(database.timeline_id)
    place = workplace.make(registry.home, run_row.id, app.run_as)
    if app.run_as:
        workplace.give(place, app.run_as)
    words = _words(engine_of(registry.storage_of(database)), rule.command, beside)
    return Command(
        words,
        place.checkout,
        rule.limit_ms,
        _environment(registry, app, timeline, database, beside),
        (*secrets_of(registry, app), *map(Secret, beside.credentials())),
        confined(registry, app, place, [beside], words),
    )


def copy_aside(registry: Registry, app_id: AppId, database_id: DatabaseId, stop: Stop, *, wait: bool) -> bool:
    """Make a database that is to be a copy which passes its instance's rule; what comes of it is in the registry.

    Where another process is at it, `wait` for its end; else that is False.
    """
    app, database = registry.app(app_id), registry.database(database_id)
    if app is None or database is None or not database.copied_aside:
        return True
    rule = registry.scrubs(app.id).get(database.instance_id)
    patience = (rule.limit_ms / 1000 if rule else 0.0) + 60.0 if wait else 0.0
    try:
        with database_locked(registry, database, patience):
            current = registry.database(database_id)
            if current is not None and current.copied_aside:
                _copy_aside(registry, app, current, rule, stop)
    except LockTimeout:
        if wait:
            raise
        return False
    return True


def _copy_aside(registry: Registry, app: App, database: Database, rule: Scrub | None, stop: Stop) -> None:
    database = _beside_source(registry, app, database)
    instance = registry.storage_of(database)
    engine = engine_of(instance)
    if engine.problems(instance, [database]):  # else it was cut off when it was in its place
        timeline = registry.timeline(database.timeline_id)
        if refused := unmakeable(registry, app, instance, {database.id: timeline}, [database]):
            why = refused[database.id]
            _record(registry, app, failure_of(database, why, now_ms()), why)
            return
        try:
            source = registry.database(database.forked_from or DatabaseId(""))
            assert source is not None  # noqa: S101 - rows of databases are never deleted
            origin = Source(source, database.forked_snapshot)
            made = scrubbed(registry, app, database, rule, lambda: engine.copy_beside(instance, database, origin), stop)
            database = replace(database, fork_version=made.version)
        except ProvisionerError as error:
            engine.discard(instance, database)
            if not stop():
                _record(registry, app, failure_of(database, str(error), now_ms()), str(error))
            return
    with app_locked(registry, app):
        current = registry.database(database.id)
        if current is None or not current.copied_aside:  # its branch has been deleted in the meantime
            engine.discard(instance, database)
            return
        engine.swap(instance, database, SnapshotId(str(uuid.uuid4())))
        now = now_ms()
        connected = replace(current.connected(now), forked_at=now, fork_version=database.fork_version)
        _save(registry, connected, "database.connect", "scrubbed" if rule else "")
        record_new(registry, instance, [connected])
    failpoints.point("provision.recorded")


def _beside_source(registry: Registry, app: App, database: Database) -> Database:
    """The row of a copy that is to be made where its source is by now: its instance may be on the move."""
    with app_locked(registry, app):
        source = registry.database(database.forked_from or DatabaseId(""))
        if source is not None and source.moved != database.moved and database.connected_at is None:
            set_moved(registry, database, moved=source.moved)
        found = registry.database(database.id)
    assert found is not None  # noqa: S101 - rows of databases are never deleted
    return found


def _record(registry: Registry, app: App, database: Database, detail: str) -> None:
    with app_locked(registry, app):
        current = registry.database(database.id)
        if current is not None and current.copied_aside:
            _save(registry, database, "database.error", detail)


def _save(registry: Registry, database: Database, action: str, detail: str) -> None:
    with registry.change():
        registry.save_databases([database])
        registry.audit_database(now_ms(), action, database, detail, cause=SCRUB)


def _environment(
    registry: Registry, app: App, timeline: Timeline, database: Database, beside: KvEndpoint | PostgresEndpoint
) -> dict[str, str]:
    """The variables of the timeline, with the copy as its only database."""
    organization, instance = registry.organization(), registry.storage_of(database)
    context = Context.PRODUCTION if timeline.production else Context.DEVELOPMENT
    connection = TimelineConnection(
        org_id=organization.id,
        org_slug=organization.slug,
        app_id=app.id,
        app_slug=app.slug,
        timeline=os.fsdecode(timeline.name),
        production=timeline.production,
        revision=timeline.revision,
        context=context,
        databases=[
            ConnectedDatabase(
                share=NO_SHARE,
                instance=instance.slug,
                instance_id=instance.id,
                engine=instance.engine,
                location=instance.location,
                database_id=database.id,
                database_name=database.name,
                connect="file",
                generation=0,
            )
        ],
        variables={item.name: item.value for item in listing(registry, app.id) if item.context is context},
    )
    return variables(connection, [beside])


def _words(engine: Engine, command: str, beside: KvEndpoint | PostgresEndpoint) -> list[str]:
    if os.path.isabs(command) and command.endswith(".sql"):
        return engine.script(beside, command)
    if os.path.isabs(command) and command.endswith(".py"):
        return [sys.executable, command]
    return shell(command)


def _never() -> bool:
    return False
