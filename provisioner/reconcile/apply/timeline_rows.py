"""Rows of timelines in the registry: opened, at a new revision, gone, and without data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.ids import TimelineId
from provisioner.core.model import App, Hold, Timeline
from provisioner.reconcile.apply.new_lineages import lineage_of
from provisioner.reconcile.plan.actions import OpenTimeline, Orphan, UpdateTimeline
from provisioner.registry.shares import end_shares
from provisioner.registry.store import Registry

Event = tuple[bytes, str | None, str, str, str]
"""Of the audit log: the timeline's name, a database's id, the action, its detail and its cause."""


def record(registry: Registry, app: App, events: Sequence[Event], now: int) -> None:
    registry.record_all(
        [
            (now, app.id, os.fsdecode(timeline), database_id, action, cause, detail)
            for timeline, database_id, action, detail, cause in events
        ]
    )


def opened(app: App, action: OpenTimeline, new_id: str, now: int) -> Timeline:
    """The row of a new timeline."""
    return Timeline(
        id=TimelineId(new_id),
        app_id=app.id,
        branch=action.branch,
        production=action.production,
        revision=action.revision,
        created_at=now,
        gone_at=None,
        rename_mark="",
        active_at=now,
        lineage=lineage_of(app, action.branch, action.lineage) or "",
        doubt=action.doubt,
    )


def note(registry: Registry, app: App, actions: Sequence[UpdateTimeline], now: int, cause: str) -> None:
    """Timelines are at another revision, their branches are gone or back, or have another reflog."""
    changed = [_noted(app, action, now) for action in actions]
    with registry.change():
        registry.save_timelines(changed)
        record(
            registry,
            app,
            [
                (action.timeline.name, None, "timeline.gone" if action.gone_at else "timeline.back", "", cause)
                for action in actions
                if action.gone_at != action.timeline.gone_at
            ],
            now,
        )


def _noted(app: App, action: UpdateTimeline, now: int) -> Timeline:
    lineage = lineage_of(app, action.timeline.branch, action.lineage)
    return replace(
        action.timeline,
        revision=action.revision,
        gone_at=action.gone_at,
        lineage=action.timeline.lineage if lineage is None else lineage,
        rename_mark="" if lineage else action.timeline.rename_mark,
        doubt=action.doubt,
        active_at=now if _pushed(action) else action.timeline.active_at,
    )


def _pushed(note: UpdateTimeline) -> bool:
    return note.gone_at is None and (note.revision != note.timeline.revision or note.timeline.gone_at is not None)


def orphan(registry: Registry, app: App, actions: Sequence[Orphan], now: int, cause: str) -> None:
    """No branch gets these databases; what was said of their timelines is not true of the branches of that name now."""
    lineages = [lineage_of(app, action.timeline.branch, action.lineage) or "" for action in actions]
    with registry.change():
        registry.save_databases(item.with_hold(Hold.ORPHANED) for action in actions for item in action.databases)
        registry.save_timelines(
            replace(
                action.timeline,
                protected=False,
                expire_ms=None,
                deployed="",
                failure=None,
                deployed_by="",
                lineage=lineage,
                doubt=action.doubt,
            )
            for action, lineage in zip(actions, lineages, strict=True)
        )
        end_shares(registry, [share for action in actions for share in action.shares])
        ids = [(action, item.id) for action in actions for item in action.databases]
        ids += [(action, share.database_id) for action in actions for share in action.shares]
        events = [(action.timeline.name, item, "database.orphan", action.cause, cause) for action, item in ids]
        record(registry, app, events, now)
