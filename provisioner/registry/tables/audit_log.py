"""The audit log, which every change of the registry is recorded in by its own transaction."""

from __future__ import annotations

import os

from provisioner.core.ids import AppId, DatabaseId
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION
from provisioner.registry.tables.connection import Tables, printable

Event = tuple[int, int, AppId | None, str | None, DatabaseId | None, str, str, str]


class AuditLog(Tables):
    """The events of a registry."""

    def record(
        self,
        at: int,
        action: str,
        cause: str,
        *,
        app_id: AppId | None = None,
        timeline: str | None = None,
        database_id: DatabaseId | None = None,
        detail: str = "",
    ) -> None:
        """Say in the audit log what was done, when (ms) and why."""
        self.record_all([(at, app_id, timeline, database_id, action, cause, detail)])

    def record_all(self, events: list[tuple[int, str | None, str | None, str | None, str, str, str]]) -> None:
        with self.change():
            self._db.executemany(
                _INSERT_EVENT,
                [
                    (*event[:2], printable(event[2]), *event[3:6], printable(event[6]), *_key(event[2]))
                    for event in events
                ],
            )
            if events:
                self._recorded = events[-1][0], events[-1][5]

    def events(self, database_id: DatabaseId, most: int = 50) -> list[tuple[int, str, str, str]]:
        """What was done to a database, newest first: when (ms), action, cause, detail."""
        rows = self.rows(
            "select at, action, cause, detail from event where database_id = ? order by id desc limit ?",
            database_id,
            most,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]  # type: ignore[misc]

    def activity(self, before: int | None = None, most: int = 100) -> list[Event]:
        """The audit log, newest first, from before an event's id: id, when (ms), app's id, timeline, database's id, action,
        cause, detail."""
        return self.rows(  # type: ignore[return-value]
            "select id, at, app_id, timeline, database_id, action, cause, detail from event where ? is null or id < ?"
            " order by id desc limit ?",
            *(before, before, most),
        )


# with its timeline, the one that it names or that of the database, and the revision that this is at
_INSERT_EVENT = """
  insert into event (at, app_id, timeline, database_id, action, cause, detail, timeline_id, revision)
  select ?1, ?2, ?3, ?4, ?5, ?6, ?7, timeline.id, timeline.revision
  from (select case
    when ?8 is not null then (select id from timeline where app_id = ?2 and branch = ?8 and preview = ?9
      and not production)
    when ?9 then (select id from timeline where app_id = ?2 and production)
    when ?3 is null then (select timeline_id from database where id = ?4)
  end as meant) left join timeline on timeline.id = meant
"""


def _key(timeline: str | None) -> tuple[bytes | None, bool]:
    """The branch of a timeline and whether it is a preview; of production None and True, of none None and False."""
    name = b"" if timeline is None else os.fsencode(timeline)
    if name.startswith(PREVIEW_PREFIX):
        return name.removeprefix(PREVIEW_PREFIX), True
    if name.startswith(BRANCH_PREFIX):
        return name.removeprefix(BRANCH_PREFIX), False
    return None, name == PRODUCTION
