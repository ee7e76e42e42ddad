"""The audit log as events, each with a number that a reader continues from, and the hooks that operators have for some.

Only one process at a time changes the registry, and numbers are given in its transactions: what has a higher number was
committed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.tables.connection import Tables, printable

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


def event(registry: Tables, seq: int) -> Recorded:
    """The event with this number; events are never deleted."""
    return _events(registry, "id = ?", (seq,), EventFilter(), "id", 1)[0]


# operators' hooks

HOOKS: Final = {"on-connected": "timeline.connected", "on-healthy": "timeline.healthy", "on-gone": "timeline.gone"}
"""The hooks with the events that they are for."""


@dataclass(frozen=True, slots=True)
class DueHook:
    """A hook is to be run for the event `seq`, which was recorded at `at` (ms). It has failed `attempts` times."""

    seq: int
    timeline_id: TimelineId
    action: str
    at: int
    attempts: int

    @property
    def kind(self) -> str:
        """The hook: a key of `HOOKS`."""
        return next(kind for kind, action in HOOKS.items() if action == self.action)


def hooks(registry: Tables, app_id: AppId) -> dict[str, str]:
    """The commands of an app's hooks, by the hook."""
    rows = registry.rows("select action, command from operator_hook where app_id = ?", app_id)
    commands = {str(action): str(command) for action, command in rows}
    return {kind: commands[action] for kind, action in HOOKS.items() if action in commands}


def set_hooks(registry: Tables, app_id: AppId, commands: Mapping[str, str]) -> None:
    """Set the commands of hooks; an empty one removes the hook, and what it was to be run for."""
    with registry.change():
        for kind, command in commands.items():
            action = HOOKS[kind]
            if command:
                registry.write(
                    upsert("operator_hook", ("app_id", "action", "command"), ("command",), key="app_id, action"),
                    *(app_id, action, printable(command)),
                )
            else:
                registry.write("delete from operator_hook where app_id = ? and action = ?", app_id, action)
                registry.write("delete from hook_due where app_id = ? and action = ?", app_id, action)


def due_hooks(registry: Tables, app_id: AppId, timeline_id: TimelineId | None = None) -> list[DueHook]:
    """Those of an app, or of one of its timelines, in the order of their events."""
    rows = registry.rows(
        "select seq, timeline_id, action, at, attempts from hook_due where app_id = ? and ifnull(?, timeline_id) = timeline_id"
        " order by seq",
        *(app_id, timeline_id),
    )
    return [DueHook(*row) for row in rows]  # type: ignore[arg-type]


def end_hook(registry: Tables, due: DueHook) -> None:
    """It has run, or must no longer run."""
    registry.write("delete from hook_due where seq = ?", due.seq)


def count_attempt(registry: Tables, due: DueHook) -> None:
    registry.write("update hook_due set attempts = attempts + 1 where seq = ?", due.seq)


def is_announced(registry: Tables, timeline_id: TimelineId) -> bool:
    """Was a timeline's last event of the two that it is connected, and not that it is gone?"""
    rows = registry.rows(
        "select action from event where timeline_id = ? and action in ('timeline.connected', 'timeline.gone')"
        " order by id desc limit 1",
        timeline_id,
    )
    return bool(rows) and rows[0][0] == HOOKS["on-connected"]
