"""Actions as people and programs read them, in the JSON documents of `reconcile --dry-run` and in its lines."""

from __future__ import annotations

import os
from typing import assert_never

from provisioner.core.model import Database
from provisioner.core.naming import timeline_name
from provisioner.reconcile.plan.actions import (
    Action,
    Archive,
    ClearHold,
    Create,
    Ensure,
    Fail,
    OpenTimeline,
    Orphan,
    Purge,
    RenameTimeline,
    Renew,
    Unshare,
    UpdateTimeline,
)


def describe(action: Action) -> dict[str, str | None]:
    """An action for people and programs: what, on which timeline and database, why, and what failed last."""
    kind, name, database, cause = _described(action)
    return {
        "action": kind,
        "timeline": os.fsdecode(name),
        "database": database.name if database else None,
        "cause": cause,
        "error": database.error if database else None,
    }


def _described(action: Action) -> tuple[str, bytes, Database | None, str | None]:  # noqa: C901 - one case for each action
    """What programs call it, on which timeline and database, and why."""
    match action:
        case OpenTimeline(branch=branch, production=production):
            return "open", timeline_name(branch, production=production), None, None
        case UpdateTimeline(timeline=timeline):
            return "note", timeline.name, None, None
        case RenameTimeline(old=old, new=new):
            return "follow", old.name, None, f"its branch was renamed to {os.fsdecode(new)}"
        case Orphan(timeline=timeline, cause=cause):
            return "orphan", timeline.name, None, cause
        case Create(timeline=timeline):
            return "create", timeline.name, None, None
        case Ensure(database=database, timeline=timeline, cause=cause):
            return "ensure", timeline.name, database, cause
        case Archive(database=database, timeline=timeline, cause=cause):
            return "archive", timeline.name, database, cause
        case Fail(database=database, timeline=timeline, reason=reason):
            return "fail", timeline.name, database, reason
        case ClearHold(database=database, timeline=timeline):
            return "release", timeline.name, database, None
        case Purge(database=database, timeline=timeline, cause=cause):
            return "purge", timeline.name, database, cause
        case Renew(database=database, timeline=timeline):
            return "renew", timeline.name, database, None
        case Unshare(timeline=timeline, cause=cause):
            return "unshare", timeline.name, None, cause
        case _:
            assert_never(action)
