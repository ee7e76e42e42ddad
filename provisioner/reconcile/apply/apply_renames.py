"""Following renames: the data stays where it is, the registry says under which branch it is found from now on."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Database, Hold, Instance, Share, Status, Timeline
from provisioner.reconcile.apply.new_lineages import lineage_of
from provisioner.reconcile.apply.new_rows import name_of
from provisioner.reconcile.plan.actions import RenameTimeline
from provisioner.registry import queries
from provisioner.registry.hosting import carry_domains
from provisioner.registry.shares import carry_shares
from provisioner.registry.store import Registry
from provisioner.system import failpoints


def follow(registry: Registry, app: App, actions: Sequence[RenameTimeline], now: int) -> None:
    """Carry out all renames of a plan in one transaction: branches may have exchanged their names."""
    failpoints.point("rename.begun")
    lineages = [lineage_of(app, action.new, action.lineage) for action in actions]
    actions = [
        replace(action, lineage=found) for action, found in zip(actions, lineages, strict=True) if found is not None
    ]
    if len(actions) < len(lineages):
        return  # git has changed again: the next look sees the outcome for all of them
    there = queries.of_branches(registry, app.id, [action.new for action in actions])
    known = {timeline.branch: timeline for timeline in there if timeline.of_branch}
    arrived = {action.new: _arrived(known.get(action.new), action, now) for action in actions}
    left = [_left(action.old, now) for action in actions if action.old.branch not in arrived]
    names = _Names(registry, app)
    moved = [
        (replace(database, timeline_id=timeline.id, name=names.of(database, timeline)), timeline, action)
        for action in actions
        for timeline in (arrived[action.new],)
        for database in (*action.databases, *action.kept)
    ]
    moved.sort(key=lambda each: not each[0].live)  # a timeline with nothing but archived data loses its domains
    carried = {action.old.id: arrived[action.new].id for action in actions}
    with registry.change():
        registry.save_timelines([*arrived.values(), *left])
        # no two live databases may have one name, not even while they exchange them
        registry.give_up_places(database.id for database, _, _ in moved)
        carry_domains(registry, carried, now)
        registry.save_databases(database for database, _, _ in moved)
        registry.save_databases(_left_behind(registry, actions, {database.id for database, _, _ in moved}))
        ended = carry_shares(registry, carried)
        _end_keeping(registry, app, ended, {database.id for database, _, _ in moved}, now)
        for database, timeline, action in moved:
            renamed = f"{os.fsdecode(action.old.branch)} -> {os.fsdecode(action.new)}"
            registry.audit(now, "database.rename", timeline, database.id, renamed, cause="git")
    failpoints.point("rename.recorded")


class _Names:
    """What databases of an app are called on other timelines."""

    def __init__(self, registry: Registry, app: App) -> None:
        self._registry, self._app = registry, app
        self._first = registry.first_assigned(app.id)
        self._instances: dict[InstanceId, Instance] = {}

    def of(self, database: Database, timeline: Timeline) -> str:
        if database.instance_id not in self._instances:
            self._instances[database.instance_id] = self._registry.instance_of(database.instance_id)
        return name_of(self._app, timeline, self._instances[database.instance_id], self._first)


def _end_keeping(registry: Registry, app: App, ended: Sequence[Share], moved: set[DatabaseId], now: int) -> None:
    """A database that was archived while its timeline used another's was replaced: its retention period starts."""
    places = {(share.timeline_id, share.instance_id) for share in ended}
    registry.save_databases(
        item.kept_until(now + app.retention_ms)
        for item in queries.databases_of_all(registry, {share.timeline_id for share in ended})
        if item.id not in moved and (item.timeline_id, item.instance_id) in places
        if item.status is Status.ARCHIVED and item.purge_at is None and item.hold is None
    )


def _arrived(known: Timeline | None, action: RenameTimeline, now: int) -> Timeline:
    """The timeline by its new name, with whatever was said of it by the old one."""
    return replace(
        action.old,
        id=known.id if known else TimelineId(str(uuid.uuid4())),
        created_at=known.created_at if known else now,
        branch=action.new,
        revision=action.revision,
        gone_at=None,
        lineage=action.lineage,
    )


def _left_behind(registry: Registry, actions: Sequence[RenameTimeline], moved: set[DatabaseId]) -> list[Database]:
    """What older branches of a name have left in the archive: it is not the next one's that is called so."""
    return [
        item.with_hold(Hold.ORPHANED)
        for item in queries.databases_of_all(registry, {action.old.id for action in actions})
        if item.id not in moved and item.hold is None and not item.live
    ]


def _left(timeline: Timeline, now: int) -> Timeline:
    """What was said of it went along: a branch that takes its name later is another one."""
    return replace(
        timeline,
        gone_at=now,
        protected=False,
        expire_ms=None,
        deployed="",
        failure=None,
        deployed_by="",
        lineage="",
        doubt="",
    )
