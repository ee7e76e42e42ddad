"""Timelines of one revision each, made and deleted by a person; reconciling does the rest."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from provisioner.core.ids import InstanceId, TimelineId
from provisioner.core.model import App, Timeline
from provisioner.engines.protocol.engine import Source
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.apply.new_rows import begun
from provisioner.registry import queries
from provisioner.registry.store import Registry


def open_preview(
    registry: Registry, app: App, revision: str, now: int, *, lasts_ms: int, sources: Mapping[InstanceId, Source]
) -> Timeline:
    """The timeline of a revision (a commit's full id), which it has from `now` on for `lasts_ms`; 0 is without end.

    A new database is a copy of the source for its instance's id, empty where there is none; one that was there comes
    back as it was. Raises Busy and StorageFailed.
    """
    with app_locked(registry, app), registry.change():
        known = find_preview(registry, app, revision)
        if known is not None:
            timeline = replace(known, gone_at=None, expire_ms=lasts_ms, active_at=now)
        else:
            timeline = Timeline(
                id=TimelineId(str(uuid.uuid4())),
                app_id=app.id,
                branch=revision.encode(),
                production=False,
                revision=revision,
                created_at=now,
                gone_at=None,
                rename_mark="",
                preview=True,
                expire_ms=lasts_ms,
                active_at=now,
            )
        registry.save_timelines([timeline])
        _begin_databases(registry, app, timeline, now, sources)
        registry.audit(now, "timeline.open" if known is None else "timeline.back", timeline)
    return timeline


def _begin_databases(
    registry: Registry, app: App, timeline: Timeline, now: int, sources: Mapping[InstanceId, Source]
) -> None:
    there = {item.instance_id for item in queries.databases_of(registry, timeline)}
    first = registry.first_assigned(app.id)
    for instance in registry.assigned(app.id):
        if instance.id in there:
            continue
        database = begun(str(uuid.uuid4()), app, timeline, instance, first, now)
        source = sources.get(instance.id)
        if source is not None:
            database = replace(database, forked_from=source.database.id, forked_snapshot=source.snapshot_id)
        registry.save_databases([database])


def close_preview(registry: Registry, app: App, timeline: Timeline, now: int) -> None:
    """Its databases are archived by the next reconcile."""
    with app_locked(registry, app), registry.change():
        current = registry.timeline(timeline.id)
        registry.save_timelines([replace(current, gone_at=now)])
        registry.audit(now, "timeline.gone", timeline)


def find_preview(registry: Registry, app: App, revision: str) -> Timeline | None:
    return queries.preview(registry, app.id, revision.encode("utf-8", "surrogateescape"))
