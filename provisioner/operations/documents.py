"""What the registry and the stores hold, as the documents that `--json` prints and the tables are drawn from."""

from __future__ import annotations

import os
from typing import Any

from provisioner.core.clock import rfc3339
from provisioner.core.connection import database_url, sqlite_url
from provisioner.core.model import (
    App,
    ConnectMode,
    Database,
    Instance,
    RunState,
    Share,
    Status,
    Timeline,
    deploy_status,
    timeline_status,
)
from provisioner.engines.catalog import engine_of
from provisioner.engines.server_endpoint import served
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry.runs import last_run
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry
from provisioner.runs.process import log_path

Document = dict[str, Any]


class Reach:
    """Where an app's databases lie and how they are reached: asked of the registry and the home once."""

    def __init__(self, registry: Registry, app_id: str) -> None:
        self._registry = registry
        self._instances: dict[str, Instance] = {}
        self._names: dict[str, str] = {}
        self._modes = registry.connect_modes(app_id)
        self._server = served(registry.home)

    def instance(self, instance_id: str) -> Instance:
        if instance_id not in self._instances:
            self._instances[instance_id] = self._registry.instance_of(instance_id)
        return self._instances[instance_id]

    def name(self, database_id: str | None) -> str | None:
        if database_id is None:
            return None
        if database_id not in self._names:
            found = self._registry.database(database_id)
            self._names[database_id] = found.name if found else database_id
        return self._names[database_id]

    def url(self, database: Database, path: str | None) -> str | None:
        """What an app that is started now gets as its URL; None where it cannot be started. `path` is that of its file."""
        mode = self._modes.get(database.instance_id, ConnectMode.AUTO)
        if not database.live:
            return None
        if mode is not ConnectMode.FILE and self._server is not None:
            return database_url(self._server[1], database.id)
        return None if path is None or mode is ConnectMode.URL else sqlite_url(path)


class _Held:
    """Which databases each timeline has, and which of another's it uses."""

    def __init__(self, registry: Registry, app: App) -> None:
        self.timelines = {timeline.id: timeline for timeline in registry.timelines(app.id)}
        self._own: dict[str, list[Database]] = {}
        by_id: dict[str, Database] = {}
        for database in registry.databases(app.id):
            by_id[database.id] = database
            self._own.setdefault(database.timeline_id, []).append(database)
        self._shared: dict[str, list[Database]] = {}
        self._sharers: dict[str, list[Timeline]] = {}
        for share in shares(registry, app.id):
            database = by_id.get(share.database_id) or _purged(registry, share)
            self._shared.setdefault(share.timeline_id, []).append(database)
            self._sharers.setdefault(share.database_id, []).append(self.timelines[share.timeline_id])

    def of(self, timeline: Timeline) -> list[Database]:
        """What it shares first: that is what its apps are connected to."""
        return self._shared.get(timeline.id, []) + self._own.get(timeline.id, [])

    def owner(self, timeline: Timeline, database: Database) -> str | None:
        """Whose it is, where it is not the timeline's own."""
        return None if database.timeline_id == timeline.id else os.fsdecode(self.timelines[database.timeline_id].name)

    def sharers(self, timeline: Timeline, database: Database) -> list[str]:
        """Who uses it besides, where it is the timeline's own."""
        if database.timeline_id != timeline.id:
            return []
        return sorted(os.fsdecode(sharer.name) for sharer in self._sharers.get(database.id, []))


def _purged(registry: Registry, share: Share) -> Database:
    found = registry.database(share.database_id)
    assert found is not None  # noqa: S101 - rows of databases are never deleted
    return found


def timelines(registry: Registry, app: App) -> list[Document]:
    """One document per timeline that has, or is to have, a database; production first, then by name."""
    held = _Held(registry, app)
    reach = Reach(registry, app.id)
    documents = []
    for timeline in sorted(held.timelines.values(), key=lambda timeline: (not timeline.production, timeline.name)):
        if held.of(timeline) or timeline.gone_at is None:
            documents.append(
                _timeline(app, timeline, held, reach) | {"pre_deploy": pre_deploy(registry, app, timeline)}
            )
    return documents


def pre_deploy(registry: Registry, app: App, timeline: Timeline) -> Document | None:
    """What became of the pre-deploy command at the timeline's revision; None where the app has none."""
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
    """One word for a timeline with these databases, its own and what it uses of others."""
    statuses = [database.status for database in held]
    deployed = deploy_status(app, timeline)
    if deployed is not None and timeline.gone_at is None and any(database.live for database in held):
        statuses.append(deployed)
    return timeline_status(statuses)


def _timeline(app: App, timeline: Timeline, held: _Held, reach: Reach) -> Document:
    return {
        "app": app.slug,
        "timeline": os.fsdecode(timeline.name),
        "branch": None if timeline.preview else os.fsdecode(timeline.branch),
        "context": "production" if timeline.production else "development",
        "revision": timeline.revision or None,
        "status": str(status_of(app, timeline, held.of(timeline))),
        "protected": timeline.protected,
        "expires_at": rfc3339(None if timeline.gone_at is not None else expires_at(app, timeline)),
        "databases": [
            {
                **document(database, reach),
                "shared_from": held.owner(timeline, database),
                "shared_by": held.sharers(timeline, database),
            }
            for database in held.of(timeline)
        ],
    }


def document(database: Database, reach: Reach) -> Document:
    """A database as it is now: its file is looked at."""
    instance = reach.instance(database.instance_id).storage(moved=database.moved)
    inspection = engine_of(instance).inspect(instance, database)
    return {
        "id": database.id,
        "instance": instance.slug,
        "engine": instance.engine,
        "name": database.name,
        "status": str(database.status),
        "error": database.error,
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


def databases(registry: Registry, app: App) -> list[Document]:
    """The flat list: every database with its app and timeline."""
    return [
        {"app": document["app"], "timeline": document["timeline"], **database}
        for document in timelines(registry, app)
        for database in document["databases"]
    ]


def size_text(size: int | None) -> str:
    """``1.4 MB``; a dash where it is not known."""
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError
