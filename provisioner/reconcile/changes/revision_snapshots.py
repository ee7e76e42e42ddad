"""The data as it was at a commit: kept when a timeline moves on from it, where its app says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import TimelineId
from provisioner.core.model import App, Database, Timeline
from provisioner.reconcile.changes.snapshots import keep_newest, take_snapshots
from provisioner.reconcile.plan.actions import Action, RenameTimeline, UpdateTimeline
from provisioner.registry.queries import databases_of, databases_of_all
from provisioner.registry.store import Registry

REVISION = "revision"

Moved = tuple[TimelineId, str]
"""A timeline by its id, and the revision that it is about to leave."""


def moves(registry: Registry, app: App, actions: Sequence[Action]) -> list[Moved]:
    """The timelines that a plan moves on from a revision at which their data is to be kept."""
    if not app.snapshot_revisions:
        return []
    left = {timeline.id: timeline for timeline in _moved(actions)}
    connected = {database.timeline_id for database in databases_of_all(registry, left) if _has_data(database)}
    return [(timeline.id, timeline.revision) for timeline in left.values() if timeline.id in connected]


def _moved(actions: Sequence[Action]) -> Iterable[Timeline]:
    for action in actions:
        timeline = (
            action.timeline
            if isinstance(action, UpdateTimeline)
            else action.old
            if isinstance(action, RenameTimeline)
            else None
        )
        if timeline is not None and timeline.revision not in ("", getattr(action, "revision", "")):
            yield timeline


def keep(registry: Registry, app: App, moved: Sequence[Moved], now: int) -> None:
    """Snapshot the databases of these timelines, and delete what is older than the app says.

    The timeline moves on even if that fails, because a full disk would hold it back indefinitely. Then the
    history of the database says so.
    """
    for timeline_id, revision in moved:
        timeline = registry.timeline(timeline_id)
        if timeline.revision == revision:  # else another process has done it, and the timeline has moved on
            _keep(registry, app, timeline, [item for item in databases_of(registry, timeline) if _has_data(item)], now)


def _keep(registry: Registry, app: App, timeline: Timeline, databases: Sequence[Database], now: int) -> None:
    """Together, so that a restore has all of them; if one of them fails, the others one by one."""
    try:
        take_snapshots(registry, databases, now, label="", cause=REVISION)
        for database in databases:
            keep_newest(registry, database, REVISION, app.snapshot_revisions, now)
    except ProvisionerError as error:
        if len(databases) > 1:
            for database in databases:
                _keep(registry, app, timeline, [database], now)
            return
        registry.audit(now, "database.snapshot-failed", timeline, databases[0].id, str(error), cause=REVISION)


def _has_data(database: Database) -> bool:
    return database.settled
