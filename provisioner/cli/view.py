"""What the registry and the stores hold, as the documents that `--json` prints and the tables are drawn from."""

from __future__ import annotations

import os
from typing import Any

from provisioner.clock import rfc3339
from provisioner.engines.table import ENGINES
from provisioner.environment import sqlite_url
from provisioner.model import App, Database, Instance, Timeline, timeline_status
from provisioner.registry.store import Registry

Document = dict[str, Any]


def timelines(registry: Registry, app: App) -> list[Document]:
    """One document per timeline that has, or is to have, a database; production first, then by name."""
    instances: dict[str, Instance] = {}
    of_timeline: dict[str, list[Database]] = {}
    for database in registry.databases(app.id):
        of_timeline.setdefault(database.timeline_id, []).append(database)
    documents = []
    for timeline in sorted(registry.timelines(app.id), key=lambda timeline: (not timeline.production, timeline.branch)):
        held = of_timeline.get(timeline.id, [])
        if not held and timeline.gone_at is not None:
            continue
        documents.append(_timeline(registry, app, timeline, held, instances))
    return documents


def _timeline(
    registry: Registry, app: App, timeline: Timeline, held: list[Database], instances: dict[str, Instance]
) -> Document:
    for database in held:
        if database.instance_id not in instances:
            instances[database.instance_id] = registry.instance_of(database.instance_id)
    return {
        "app": app.slug,
        "timeline": os.fsdecode(timeline.name),
        "branch": os.fsdecode(timeline.branch),
        "context": "production" if timeline.production else "development",
        "revision": timeline.revision or None,
        "status": str(timeline_status([database.status for database in held])),
        "databases": [_database(database, instances[database.instance_id]) for database in held],
    }


def _database(database: Database, instance: Instance) -> Document:
    inspection = ENGINES[instance.engine].inspect(instance, database)
    return {
        "id": database.id,
        "instance": instance.slug,
        "engine": instance.engine,
        "name": database.name,
        "status": str(database.status),
        "error": database.error,
        "path": inspection.path if database.connected_at is not None else None,
        "url": sqlite_url(inspection.path) if inspection.path and database.live else None,
        "size": inspection.size,
        "created_at": rfc3339(database.created_at),
        "archived_at": rfc3339(database.archived_at),
        "purge_at": rfc3339(database.purge_at),
        "forked_from": None,
    }


def databases(registry: Registry, app: App) -> list[Document]:
    """The flat list: every database with its app and timeline."""
    return [
        {"app": document["app"], "timeline": document["timeline"], **database}
        for document in timelines(registry, app)
        for database in document["databases"]
    ]
