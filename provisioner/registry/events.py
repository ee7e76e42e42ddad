"""The audit log as events: in the order in which they were recorded, each with a number that a reader continues from.

Only one process at a time changes the registry, and numbers are given in its transactions: what has a higher number was
committed later.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.registry.connection import Tables

_EVENT = "id, at, action, app_id, timeline, timeline_id, revision, database_id, cause, detail"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event. `timeline` is what its timeline was called then, and `revision` where it was; times in ms."""

    seq: int
    at: int
    action: str
    app_id: str | None
    timeline: str | None
    timeline_id: TimelineId | None
    revision: str | None
    database_id: DatabaseId | None
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant: those for which all that is not None holds. `since` is in ms."""

    app_id: str | None = None
    timeline_id: TimelineId | None = None
    instance_id: InstanceId | None = None
    database_id: DatabaseId | None = None
    actions: tuple[str, ...] = ()
    since: int | None = None


def last_seq(registry: Tables) -> int:
    """The number of the latest event; 0 if there is none."""
    return int(str(registry.rows("select ifnull(max(id), 0) from event")[0][0]))


def seq_before(registry: Tables, at: int) -> int:
    """The number of the last event before the first one that was recorded at this time (ms) or later."""
    rows = registry.rows("select min(id) from event where at >= ?", at)
    return last_seq(registry) if rows[0][0] is None else int(str(rows[0][0])) - 1


def after(registry: Tables, seq: int, last: int, wanted: EventFilter, most: int) -> list[Recorded]:
    """The first events after the number `seq`, up to `last`."""
    return _events(registry, "id > ? and id <= ?", (seq, last), wanted, "id", most)


def newest(registry: Tables, wanted: EventFilter, most: int) -> list[Recorded]:
    """The latest events, the oldest of them first."""
    return _events(registry, "1", (), wanted, "id desc", most)[::-1]


def _events(
    registry: Tables, where: str, values: tuple[object, ...], wanted: EventFilter, order: str, most: int
) -> list[Recorded]:
    conditions, given = [where], list(values)
    choices = {
        "app_id = ?": wanted.app_id,
        "at >= ?": wanted.since,
        # of older versions' events only the database says which timeline's they are
        "ifnull(timeline_id, (select timeline_id from database where id = database_id)) = ?": wanted.timeline_id,
        "database_id in (select id from database where instance_id = ?)": wanted.instance_id,
        "database_id = ?": wanted.database_id,
    }
    for condition, value in choices.items():
        if value is not None:
            conditions.append(condition)
            given.append(value)
    if wanted.actions:
        conditions.append(f"action in ({', '.join('?' * len(wanted.actions))})")
        given += wanted.actions
    rows = registry.rows(
        f"select {_EVENT} from event where {' and '.join(conditions)} order by {order} limit ?", *given, most
    )
    return [Recorded(*row) for row in rows]  # type: ignore[arg-type]
