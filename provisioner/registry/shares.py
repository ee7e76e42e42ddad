"""Timelines that use another timeline's database on purpose, in the registry."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.ids import AppId, DatabaseId, TimelineId
from provisioner.core.model import Share
from provisioner.registry import queries
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.store import Registry

_COLUMNS = ("timeline_id", "instance_id", "database_id", "created_at", "id")


def shares(registry: Registry, app_id: AppId) -> list[Share]:
    """Those of an app's timelines."""
    rows = registry.rows(
        "select share.timeline_id, share.instance_id, share.database_id, share.created_at, share.id from share"
        " cross join timeline on timeline.id = share.timeline_id where app_id = ? order by share.created_at, share.rowid",
        app_id,
    )
    return [Share(*row) for row in rows]  # type: ignore[arg-type]


def save_share(registry: Registry, share: Share) -> None:
    registry.write(
        upsert("share", _COLUMNS, ("database_id",), key="timeline_id, instance_id"),
        *(share.timeline_id, share.instance_id, share.database_id, share.created_at),
        share.id or secrets.token_hex(16),
    )


def end_shares(registry: Registry, ended: Iterable[Share]) -> None:
    registry.write_all(
        "delete from share where timeline_id = ? and instance_id = ?",
        [(share.timeline_id, share.instance_id) for share in ended],
    )


def end_shares_of(registry: Registry, database_ids: Iterable[DatabaseId]) -> None:
    """End all uses of databases that are gone by other timelines, which then get their own databases."""
    registry.write_all("delete from share where database_id = ?", [(each,) for each in database_ids])


def carry_shares(registry: Registry, moved: dict[TimelineId, TimelineId]) -> list[Share]:
    """Branches were renamed: what the timeline of one shared goes to another's, by their ids. What that shared ends, and
    is returned."""
    known = queries.shares_of_all(registry, {*moved, *moved.values()})
    going = [share for share in known if share.timeline_id in moved]
    ended = [share for share in known if share not in going and share.timeline_id in moved.values()]
    end_shares(registry, [*going, *ended])
    for share in going:
        save_share(registry, replace(share, timeline_id=moved[share.timeline_id]))
    return ended
