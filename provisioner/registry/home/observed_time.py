"""For how long this home has been looked after, by a clock that only runs forward while the machine is up.

What is deleted after a time waits for that time twice at once: by the wall clock, which anyone may set, and by this one. So a
wall clock that jumps by years deletes nothing, and neither does a registry that was restored, or a machine that was resumed:
time in which nothing looked after the home is not counted.
"""

from __future__ import annotations

from typing import Final

from provisioner.core.ids import DatabaseId
from provisioner.core.waiting_time import over_at
from provisioner.registry.instances import Deleted, deleted
from provisioner.registry.store import Registry
from provisioner.system import uptime
from provisioner.system.uptime import Reading

LONGEST_GAP_MS: Final = 26 * 3_600_000  # a home with a daily reconcile is maintained
SAVED_MS: Final = 600_000  # the most that is lost when the machine goes down


def observed_ms(registry: Registry) -> int:
    """The time so far. Only differences mean something. Changes nothing."""
    known = _known(registry)
    return 0 if known is None else known[1] + _passed(known[0], uptime.reading())


def observe(registry: Registry) -> None:
    """Count the time since the last look, and start the waiting periods that have not started."""
    known, now = _known(registry), uptime.reading()
    if now is None:
        return
    passed = 0 if known is None else _passed(known[0], now)
    total = (0 if known is None else known[1]) + passed
    if known is None:
        registry.write(
            "insert into observed_time (boot, at_ms, total_ms) select ?, ?, 0"
            " where not exists (select 1 from observed_time)",
            *(now.boot, now.ms),
        )
    elif passed >= SAVED_MS or known[0].boot != now.boot or not passed:
        registry.write(  # unless another process has just done so
            "update observed_time set boot = ?, at_ms = ?, total_ms = ? where (boot, at_ms, total_ms) = (?, ?, ?)",
            *(now.boot, now.ms, total, known[0].boot, known[0].ms, known[1]),
        )
    for table, condition in _WAITING:
        if registry.rows(f"select 1 from {table} where {condition} limit 1"):
            registry.write(f"update {table} set waits_from = ? where {condition}", total)


_WAITING: Final = (
    ("database", "status = 'archived' and purge_at is not null and waits_from is null"),
    ("instance", "deleted_at is not null and waits_from is null"),
)


def waited(registry: Registry, now: int) -> dict[DatabaseId, int]:
    """By the ids of the archived databases whose time is over by the wall clock at `now` (ms): how long they have waited."""
    rows = registry.rows(
        "select id, waits_from from database where purge_at <= ? and status = 'archived' and waits_from is not null",
        now,
    )
    total = observed_ms(registry) if rows else 0
    return {DatabaseId(str(database_id)): total - int(str(since)) for database_id, since in rows}


def recoverable_until(registry: Registry, item: Deleted, now: int) -> int:
    """When (ms) the time to recover an instance is over, by both clocks."""
    if item.purge_at > now:
        return item.purge_at
    waits = None if item.waits_from is None else observed_ms(registry) - item.waits_from
    return over_at(item.purge_at, item.purge_at - item.deleted_at, waits, now)


def recoverable(registry: Registry, now: int) -> list[Deleted]:
    """The instances that were deleted and can be recovered, the last one first."""
    return [item for item in deleted(registry) if recoverable_until(registry, item, now) > now]


def _known(registry: Registry) -> tuple[Reading, int] | None:
    rows = registry.rows("select boot, at_ms, total_ms from observed_time")
    found = ((Reading(str(boot), int(str(uptime))), int(str(total))) for boot, uptime, total in rows)
    return next(found, None)


def _passed(since: Reading, now: Reading | None) -> int:
    """How much of the time between two readings was looked after: none of a gap, and none across boots."""
    if now is None or now.boot != since.boot:
        return 0
    passed = now.ms - since.ms
    return passed if 0 <= passed <= LONGEST_GAP_MS else 0
