"""Databases are not archived before their timeline's app has ended and the hook ``on-gone`` has run, or have had their time.

The hook ends what an operator runs elsewhere on those databases. It runs when the branch is gone, in its grace period; what is
left of that is its time, and `LONGEST_WAIT_MS` at least. A timeline whose time is over, though its branch is there, is gone in
this sense, too.
"""

from __future__ import annotations

import os
from dataclasses import replace

from provisioner.core.ids import TimelineId
from provisioner.core.model import App, Intent, Timeline
from provisioner.reconcile.plan.actions import Archive, Plan, UpdateTimeline
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import events, hosting
from provisioner.registry.events import HOOKS
from provisioner.registry.store import Registry
from provisioner.system.apps_lock import apps_run

LONGEST_WAIT_MS = 300_000
LONGEST_END_MS = 15_000  # that an app has to end


def held_back(registry: Registry, app: App, plan: Plan, now: int) -> Plan:
    """The plan without the archiving that has to wait. Records that timelines are gone whose time is over."""
    archiving = [action for action in plan.actions if isinstance(action, Archive) and _can_wait(action)]
    archived = {action.timeline.id: action.timeline for action in archiving}
    hooked = bool(archived) and "on-gone" in events.hooks(registry, app.id)
    hosted = bool(archived) and hosting.run_command(registry, app.id) is not None and apps_run(registry.home)
    if not hooked and not hosted:
        return plan
    noted = {
        action.timeline.id
        for action in plan.actions
        if isinstance(action, UpdateTimeline) and action.gone_at is not None
    }
    until: dict[TimelineId, int] = {}
    for timeline in archived.values():
        is_noted = timeline.id in noted
        hook = _wait(registry, app, timeline, now, noted=is_noted) if hooked else None
        end = _end(registry, timeline, now, noted=is_noted) if hosted else None
        waits = [each for each in (hook, end) if each is not None]
        if waits:
            until[timeline.id] = max(waits)
    waiting = {id(action) for action in archiving if action.timeline.id in until}
    actions = tuple(action for action in plan.actions if id(action) not in waiting)
    times = [at for at in (plan.next_at, *until.values()) if at is not None]
    return replace(plan, actions=actions, next_at=min(times, default=None))


def _can_wait(action: Archive) -> bool:
    return action.database.live and action.database.intent is not Intent.ARCHIVE


def _end(registry: Registry, timeline: Timeline, now: int, *, noted: bool) -> int | None:
    """Until when (ms) they wait for the end of the app; None: it has ended, or has had its time."""
    if hosting.hosted(registry, timeline.id) is None or (timeline.gone_at is None and not noted):
        return None
    over = (timeline.gone_at or now) + LONGEST_END_MS
    return over if over > now else None


def _wait(registry: Registry, app: App, timeline: Timeline, now: int, *, noted: bool) -> int | None:
    """Until when (ms) a timeline's databases wait; None: they do not."""
    due = [each for each in events.due_hooks(registry, app.id, timeline.id) if each.action == HOOKS["on-gone"]]
    if due:
        over = due[-1].at + LONGEST_WAIT_MS
        return over if over > now else None
    if not events.is_announced(registry, timeline.id):
        return None  # it has run, or the timeline was never connected
    if not noted:
        expires = expires_at(app, timeline)
        if timeline.gone_at is None and (expires is None or expires > now):
            return None  # archived by a person, for example
        name = os.fsdecode(timeline.name)
        registry.record(now, HOOKS["on-gone"], "its time is over", app_id=app.id, timeline=name)
    return now + LONGEST_WAIT_MS
