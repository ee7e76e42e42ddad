"""The input of a plan: the desired and the actual state, with the time, and queries that all parts of a plan use."""

from __future__ import annotations

from collections import defaultdict

from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Database, Hold, Intent, Share, Status, Timeline
from provisioner.core.waiting_time import over_at
from provisioner.reconcile.plan.actions import Actual, Archive, Desired

Retry = bool | frozenset[DatabaseId]
"""Whether to wait for the time at which what failed is tried again: all of it, none, or the databases with these ids."""


class PlannerContext:
    """`next_at` becomes when (ms) time alone changes something; None where it does not."""

    def __init__(self, desired: Desired, actual: Actual, now: int, retry: Retry) -> None:
        self.desired, self.actual, self.now, self.retry = desired, actual, now, retry
        self.app = desired.app
        self.next_at: int | None = None
        self.databases: dict[TimelineId, list[Database]] = defaultdict(list)
        self.lost: dict[TimelineId, list[Database]] = defaultdict(list)  # those on instances that were deleted
        for database in actual.databases:
            if database.instance_id in (desired.deleted or {}):
                self.lost[database.timeline_id].append(database)
                continue
            self.databases[database.timeline_id].append(database)
        self.shares: dict[TimelineId, dict[InstanceId, Share]] = defaultdict(dict)  # by timeline and instance
        self._sharing: dict[DatabaseId, list[TimelineId]] = defaultdict(list)  # by database
        for share in actual.shares:
            self.shares[share.timeline_id][share.instance_id] = share
            self._sharing[share.database_id].append(share.timeline_id)
        self._timelines = {timeline.id: timeline for timeline in actual.timelines} if actual.shares else {}
        self.instances = {instance.id: instance for instance in desired.instances}
        self._orphans = {item.id for item in actual.databases if item.hold is Hold.ORPHANED}

    def at(self, when: int) -> None:
        self.next_at = when if self.next_at is None else min(self.next_at, when)

    def newest(self, timeline: Timeline) -> list[Database]:
        """On each instance the database that a timeline continues with: the live one, else the last archived."""
        best: dict[InstanceId, Database] = {}
        for database in self.databases[timeline.id]:
            over = self.over_at(database)
            if database.intent is Intent.PURGE or (over is not None and over <= self.now):
                continue
            if database.hold is Hold.ORPHANED:
                continue
            other = best.get(database.instance_id)
            if other is None or _rank(database) > _rank(other):
                best[database.instance_id] = database
        return list(best.values())

    def doubt(self, timeline: Timeline) -> str:
        """The ids of the databases that may be its branch's, as long as a person can still decide that."""
        new = self.doubts(timeline.branch).split() if timeline.of_branch else []
        old = [] if timeline.branch in self.desired.renewed else timeline.doubt.split()
        return " ".join(dict.fromkeys([*new, *(item for item in old if item in self._orphans)]))

    def doubts(self, branch: bytes) -> str:
        """The ids of the databases that may be this branch's by what git shows now."""
        names = self.desired.unclear.get(branch)
        found: list[str] = []
        for timeline in self.actual.timelines if names else ():
            if timeline.of_branch and timeline.branch in (names or ()):
                owned = (item for item in self.databases[timeline.id] if item.hold in (None, Hold.ORPHANED))
                found += [
                    *(item.id for item in owned),
                    *(each for each in timeline.doubt.split() if each in self._orphans),
                ]
        return " ".join(dict.fromkeys(found))

    def over_at(self, database: Database) -> int | None:
        """When (ms) an archived database has been kept for long enough, by both clocks; None if it is kept."""
        if database.purge_at is None or database.purge_at > self.now:
            return database.purge_at
        return over_at(database.purge_at, self.app.retention_ms, self.actual.waited.get(database.id), self.now)

    def due(self, database: Database) -> bool:
        """Has the time come to try again what failed last? Always so where nothing failed."""
        if database.intent is Intent.REPLACE:  # which is finished before anything is planned, unless the disk refuses
            if database.retry_at is not None:
                self.at(database.retry_at)
            return False
        asked = self.retry if isinstance(self.retry, bool) else database.id in self.retry
        if database.retry_at is None or asked or database.retry_at <= self.now:
            return True
        self.at(database.retry_at)
        return False

    def expired(self, timeline: Timeline) -> bool:
        """Is its time over? Where it is not yet, that is when to look again."""
        over = expires_at(self.app, timeline)
        if over is None:
            return False
        if over > self.now:
            self.at(over)
        return over <= self.now

    def shared(self, database: Database) -> bool:
        """Does a timeline that is there use this database of another one's?"""
        if database.hold in (Hold.ARCHIVED, Hold.ORPHANED) or database.instance_id not in self.instances:
            return False
        return any(self._there(self._timelines[timeline_id]) for timeline_id in self._sharing.get(database.id, ()))

    def _there(self, timeline: Timeline) -> bool:
        if timeline.preview:
            return timeline.gone_at is None and not self.expired(timeline)
        return timeline.branch in self.desired.branches and not self.expired(timeline)

    def archive(self, database: Database, timeline: Timeline, cause: str) -> Archive:
        purge_at = database.purge_at or self.now + self.app.retention_ms
        return Archive(database, timeline, cause, purge_at)


def _rank(database: Database) -> tuple[bool, bool, int]:
    """What is live goes first, then what a person wants back, then what was archived last."""
    return database.live, database.hold is Hold.CONNECTED, database.archived_at or 0


def expires_at(app: App, timeline: Timeline) -> int | None:
    """When (ms) a timeline's databases are archived though its branch is there; None: never."""
    if timeline.production or timeline.protected:
        return None
    lasts = app.expire_ms if timeline.expire_ms is None and not timeline.preview else timeline.expire_ms
    return timeline.active_at + lasts if lasts else None


def resting(database: Database) -> bool:
    """Whether it is archived, and neither a person nor an unfinished step wants to change it."""
    return database.status is Status.ARCHIVED and database.intent is None and database.hold is None


def text(branch: bytes) -> str:
    return branch.decode("utf-8", "backslashreplace")
