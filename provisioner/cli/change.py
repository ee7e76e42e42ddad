"""What a command that changes data prints with --json: CHANGE, the same keys for every verb."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from provisioner.cli.context import plan_item
from provisioner.core.clock import rfc3339
from provisioner.core.model import App, Database, Snapshot, Timeline
from provisioner.operations import documents
from provisioner.operations.documents import Document
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import Warned
from provisioner.registry import queries
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry

Describe = Callable[[Sequence[str]], object]
"""The document of a change once it is done; it gets the lines that people are shown."""


def change(registry: Registry, action: str, app: App, timeline: Timeline) -> Describe:
    """The timeline's databases as they are afterwards, and the snapshots that the change has added."""
    known = {kept.id for _, kept in _snapshots(registry, timeline)}

    def describe(lines: Sequence[str]) -> Document:
        now = documents.timeline(registry, app, registry.timeline(timeline.id))
        return {
            "action": action,
            "app": app.slug,
            "timeline": os.fsdecode(timeline.name),
            "databases": now["databases"] if now is not None else [],
            "snapshots": [
                snapshot_document(registry, app, database, kept)
                for database, kept in _snapshots(registry, timeline)
                if kept.id not in known
            ],
            **said(lines),
        }

    return describe


def said(lines: Sequence[str]) -> Document:
    """The lines about a change for people: all of them, and the warnings."""
    return {"messages": list(lines), "warnings": [line for line in lines if isinstance(line, Warned)]}


def planned(registry: Registry, action: str, app: App, databases: Iterable[Database]) -> list[Document]:
    """What a dry run of a change prints, an item for each database."""
    return [
        plan_item(action, app, os.fsdecode(timeline_of(registry, item).name), item.name, item.id) for item in databases
    ]


def timeline_after(registry: Registry, app: App, timeline: Timeline) -> Describe:
    """The timeline as 'timeline show' prints it, once a change of it is done."""
    return lambda _: documents.timeline(registry, app, registry.timeline(timeline.id))


def snapshot_document(registry: Registry, app: App, database: Database, kept: Snapshot) -> Document:
    timeline = timeline_of(registry, database)
    return {
        "id": kept.id,
        "app": app.slug,
        "timeline": timeline.name.decode("utf-8", "surrogateescape"),
        "database": database.name,
        "database_id": database.id,
        "label": kept.label,
        "cause": kept.cause,
        "revision": kept.revision or None,
        "version": kept.version,
        "size": kept.size,
        "created_at": rfc3339(kept.created_at),
        "set": kept.set_id or None,
    }


def _snapshots(registry: Registry, timeline: Timeline) -> list[tuple[Database, Snapshot]]:
    return [
        (database, kept)
        for database in queries.databases_of(registry, timeline)
        for kept in rows.snapshots(registry, database.id)
    ]
