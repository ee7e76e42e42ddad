"""What the registry and the stores hold, as the documents that `--json` prints and the tables are drawn from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from provisioner.core.clock import rfc3339
from provisioner.core.connection import database_url, sqlite_url
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import (
    App,
    ConnectMode,
    Database,
    Hold,
    Instance,
    RunState,
    Share,
    Status,
    Timeline,
    deploy_status,
    timeline_status,
)
from provisioner.core.unconnected import Doubtful
from provisioner.engines.catalog import engine_of
from provisioner.engines.server_endpoint import served
from provisioner.hosting.app_documents import AppDocuments
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import queries
from provisioner.registry.runs import last_run
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry
from provisioner.runs.process import log_path
from provisioner.system.looking import starting_nothing

Document = dict[str, Any]


class Reach:
    """The location of an app's databases and how they are reached, looked up once in the registry and the home."""

    def __init__(self, registry: Registry, app_id: AppId) -> None:
        self._registry = registry
        self._instances: dict[str, Instance] = {}
        self._names: dict[str, str] = {}
        self._modes = registry.connect_modes(app_id)
        self._server = served(registry.home)

    def instance(self, instance_id: InstanceId) -> Instance:
        if instance_id not in self._instances:
            self._instances[instance_id] = self._registry.instance_of(instance_id)
        return self._instances[instance_id]

    def name(self, database_id: DatabaseId | None) -> str | None:
        if database_id is None:
            return None
        if database_id not in self._names:
            found = self._registry.database(database_id)
            self._names[database_id] = found.name if found else database_id
        return self._names[database_id]

    def url(self, database: Database, path: str | None) -> str | None:
        """The URL for an app that starts now; None if it cannot start. `path` is that of its file."""
        mode = self._modes.get(database.instance_id, ConnectMode.AUTO)
        if not database.live:
            return None
        if mode is not ConnectMode.FILE and self._server is not None:
            return database_url(self._server[1], database.id)
        return None if path is None or mode is ConnectMode.URL else sqlite_url(path)


class _Sharing:
    """Which databases of other timelines some timelines use, by these `shares`."""

    def __init__(self, registry: Registry, shares: Iterable[Share]) -> None:
        self._registry = registry
        self._used: dict[TimelineId, list[DatabaseId]] = {}
        self._users: dict[DatabaseId, list[TimelineId]] = {}
        for share in shares:
            self._used.setdefault(share.timeline_id, []).append(share.database_id)
            self._users.setdefault(share.database_id, []).append(share.timeline_id)

    def used_by(self, timeline: Timeline) -> list[Database]:
        """The databases of other timelines that it uses."""
        found = (self._registry.database(database_id) for database_id in self._used.get(timeline.id, []))
        return [database for database in found if database is not None]

    def owner(self, timeline: Timeline, database: Database) -> str | None:
        """The timeline that a database belongs to, if it is not this one's own."""
        return None if database.timeline_id == timeline.id else self._name(database.timeline_id)

    def users(self, timeline: Timeline, database: Database) -> list[str]:
        """The other timelines that use a timeline's own database."""
        if database.timeline_id != timeline.id:
            return []
        return sorted(self._name(timeline_id) for timeline_id in self._users.get(database.id, []))

    def _name(self, timeline_id: TimelineId) -> str:
        return os.fsdecode(self._registry.timeline(timeline_id).name)


def timelines(registry: Registry, app: App) -> list[Document]:
    """One document per timeline that has, or is to have, a database; production first, then by name."""
    own: dict[str, list[Database]] = {}
    for database in sorted(registry.databases(app.id), key=lambda database: database.status is Status.ARCHIVED):
        own.setdefault(database.timeline_id, []).append(database)
    there = sorted(registry.timelines(app.id), key=lambda timeline: (not timeline.production, timeline.name))
    return _documents(
        registry, app, [(timeline, own.get(timeline.id, [])) for timeline in there], shares(registry, app.id)
    )


def timeline(registry: Registry, app: App, found: Timeline) -> Document | None:
    """The same for one timeline; None if it and its data are gone."""
    own = queries.databases_of(registry, found)
    theirs = [*queries.shares_of(registry, found), *queries.shares_in(registry, [database.id for database in own])]
    return next(iter(_documents(registry, app, [(found, own)], theirs)), None)


def _documents(
    registry: Registry, app: App, listed: Iterable[tuple[Timeline, list[Database]]], shares: Iterable[Share]
) -> list[Document]:
    sharing, reach = _Sharing(registry, shares), Reach(registry, app.id)
    listed = list(listed)
    apps = AppDocuments(registry, app, [timeline for timeline, _ in listed])
    documents = []
    for timeline, own in listed:
        held = sharing.used_by(timeline) + own  # shared databases first: its apps are connected to those
        if held or timeline.gone_at is None:
            documents.append(
                _timeline(app, timeline, held, sharing, reach)
                | apps.of(timeline)
                | {"pre_deploy": pre_deploy(registry, app, timeline)}
            )
    return documents


def pre_deploy(registry: Registry, app: App, timeline: Timeline) -> Document | None:
    """The state of the pre-deploy command at the timeline's revision; None if the app has none."""
    status = deploy_status(app, timeline)
    if status is None:
        return None
    run = last_run(registry, timeline.id, PRE_DEPLOY)
    running = run is not None and run.state is RunState.RUNNING
    states = {Status.CONNECTED: "succeeded", Status.ERROR: "failed"}
    return {
        "state": "running" if running else states.get(status, "waiting"),
        "error": timeline.failure if status is Status.ERROR else None,
        "run": None
        if run is None
        else {
            "id": run.id,
            "revision": run.revision,
            "state": str(run.state),
            "detail": run.detail or None,
            "log": log_path(registry.home, run.id),
            "started_at": rfc3339(run.started_at),
            "ended_at": rfc3339(run.ended_at),
        },
    }


def status_of(app: App, timeline: Timeline, held: list[Database]) -> Status:
    """One word for a timeline with these databases, its own and shared ones.

    An archived database counts if a person archived it and nothing has replaced it on its instance. Without live
    databases, all count.
    """
    live = {database.instance_id for database in held if database.live}
    counted = [
        database
        for database in held
        if database.live
        or not live
        or (database.hold is Hold.ARCHIVED and database.instance_id not in live and timeline.gone_at is None)
    ]
    statuses = [database.status for database in counted]
    deployed = deploy_status(app, timeline)
    if deployed is not None and timeline.gone_at is None and any(database.live for database in held):
        statuses.append(deployed)
    if timeline.doubt:
        statuses.append(Status.ERROR)
    return timeline_status(statuses)


def doubt_of(timeline: Timeline, reach: Reach) -> str | None:
    """Why a branch gets no database; None if that is clear."""
    names = [reach.name(DatabaseId(each)) or each for each in timeline.doubt.split()]
    return str(Doubtful(os.fsdecode(timeline.branch), names)) if names else None


def orphan_of(database: Database) -> str | None:
    """Why a database is archived although a branch has the name of its timeline; None if that is not so."""
    if database.hold is not Hold.ORPHANED:
        return None
    return f"belongs to an earlier branch of this name. Recover it: provisioner database recover {database.id}"


def _timeline(app: App, timeline: Timeline, held: list[Database], sharing: _Sharing, reach: Reach) -> Document:
    return {
        "app": app.slug,
        "timeline": os.fsdecode(timeline.name),
        "branch": None if timeline.preview else os.fsdecode(timeline.branch),
        "context": "production" if timeline.production else "development",
        "revision": timeline.revision or None,
        "status": str(status_of(app, timeline, held)),
        "doubt": doubt_of(timeline, reach),
        "gone": timeline.gone_at is not None,
        "protected": timeline.protected,
        "expires_at": rfc3339(None if timeline.gone_at is not None else expires_at(app, timeline)),
        "databases": [
            {
                **document(database, reach),
                "shared_from": sharing.owner(timeline, database),
                "shared_by": sharing.users(timeline, database),
            }
            for database in held
        ],
    }


def document(database: Database, reach: Reach) -> Document:
    """A database in its current state, including its file."""
    instance = reach.instance(database.instance_id).storage(moved=database.moved)
    with starting_nothing():
        inspection = engine_of(instance).inspect(instance, database)
    return {
        "id": database.id,
        "instance": instance.slug,
        "engine": instance.engine,
        "name": database.name,
        "status": str(database.status),
        "error": database.error,
        "orphan": orphan_of(database),
        "path": inspection.path if database.connected_at is not None else None,
        "url": inspection.url or reach.url(database, inspection.path),
        "size": inspection.size,
        "written_at": rfc3339(inspection.written_at) if database.connected_at is not None else None,
        "attempts": database.attempts,
        "retry_at": rfc3339(database.retry_at),
        "created_at": rfc3339(database.created_at),
        "archived_at": rfc3339(database.archived_at),
        "purge_at": rfc3339(database.purge_at),
        "forked_from": reach.name(database.forked_from),
    }


def database(registry: Registry, app: App, found: Database) -> Document:
    """A database that has data, or will have it, with its app and timeline."""
    whole = timeline(registry, app, registry.timeline(found.timeline_id))
    assert whole is not None  # noqa: S101 - it has this database
    return next(item for item in flat([whole]) if item["id"] == found.id and item["shared_from"] is None)


def databases(registry: Registry, app: App) -> list[Document]:
    """The flat list: every database with its app and timeline."""
    return flat(timelines(registry, app))


def flat(documents: list[Document]) -> list[Document]:
    """The databases of timelines, each with its app and timeline."""
    return [
        {"app": document["app"], "timeline": document["timeline"], **database}
        for document in documents
        for database in document["databases"]
    ]


def size_text(size: int | None) -> str:
    """``1.4 MB``; a dash if it is unknown."""
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError
