"""What has to be done so that the databases are what the refs say. Pure: values in, values out.

A plan may be carried out in part, and planned again: what is left is then what the next plan says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from provisioner.model import Database, Hold, Intent, Status, Timeline
from provisioner.reconcile.actions import (
    Action,
    Actual,
    Archive,
    Create,
    Desired,
    Ensure,
    Fail,
    Follow,
    Note,
    Open,
    Plan,
    Purge,
    Release,
)


def plan(desired: Desired, actual: Actual, now: int, *, retry: bool = False) -> Plan:
    """The difference between `desired` and `actual` at `now` (ms). `retry` does not wait for a retry's time."""
    return _Planner(desired, actual, now, retry).plan()


class _Planner:
    def __init__(self, desired: Desired, actual: Actual, now: int, retry: bool) -> None:
        self.desired, self.actual, self.now, self.retry = desired, actual, now, retry
        self.app = desired.app
        self.next_at: int | None = None
        self.databases: dict[str, list[Database]] = defaultdict(list)
        for database in actual.databases:
            self.databases[database.timeline_id].append(database)
        self.instances = {instance.id: instance for instance in desired.instances}

    def plan(self) -> Plan:
        actions, settled = self._rename_all()
        known = set()
        for timeline in self.actual.timelines:
            if not timeline.production:
                known.add(timeline.branch)
            if timeline.branch in settled and not timeline.production:
                continue
            if self._wanted(timeline):
                actions.extend(self._present(timeline))
            else:
                actions.extend(self._absent(timeline))
        has_production = any(timeline.production for timeline in self.actual.timelines)
        for branch, revision in self.desired.branches.items():
            production = branch == self.app.production
            new = not has_production if production else branch not in known and branch not in settled
            if new:
                actions.append(Open(branch, production, revision, (self.desired.marks or {}).get(branch, "")))
        return Plan(tuple(actions), self.next_at)

    def _wanted(self, timeline: Timeline) -> bool:
        if timeline.branch not in self.desired.branches:
            return False
        return timeline.production or timeline.branch != self.app.production

    def _at(self, when: int) -> None:
        self.next_at = when if self.next_at is None else min(self.next_at, when)

    # renames

    def _rename_all(self) -> tuple[list[Action], set[bytes]]:
        """What following the renames takes now, and the branches that nothing else is to be done about before."""
        by_branch = {timeline.branch: timeline for timeline in self.actual.timelines if not timeline.production}
        pending: list[Follow] = []
        for rename in self.desired.renames:
            old = by_branch.get(rename.old)
            if old is None or self.app.production in (rename.old, rename.new):
                continue  # production's data neither comes nor goes by a rename: a person decides
            moving = tuple(database for database in self._newest(old) if database.hold is None)
            if moving:
                pending.append(Follow(old, rename.new, self.desired.branches[rename.new], rename.mark, moving))
        leaving = {database.id for follow in pending for database in follow.databases}
        steps: list[Action] = []
        going: dict[bytes, Follow] = {}
        for follow in pending:
            first = list(self._before(follow, by_branch.get(follow.new), leaving))
            steps += first
            if not first and all(_settled(database) for database in follow.databases):
                going[follow.new] = follow
        while stuck := going.keys() & {follow.old.branch for follow in pending if follow.new not in going}:
            for name in stuck:  # what is there cannot leave yet
                del going[name]
        return [*steps, *going.values()], {name for follow in pending for name in (follow.old.branch, follow.new)}

    def _before(self, follow: Follow, new: Timeline | None, leaving: set[str]) -> Iterator[Action]:
        """First make room and have the data live, then move it: two plans, since each step may fail by itself."""
        cause = f"replaced: {_text(follow.old.branch)} was renamed to {_text(follow.new)}"
        if new is not None:
            for database in self.databases[new.id]:
                if database.live and database.id not in leaving:
                    yield self._archive(database, new, cause)
        for database in follow.databases:
            if not _settled(database) and self._due(database):
                yield Ensure(database, follow.old, "its branch was renamed")

    def _newest(self, timeline: Timeline) -> list[Database]:
        """Of each instance the database that a timeline goes on with: the live one, else the last archived."""
        best: dict[str, Database] = {}
        for database in self.databases[timeline.id]:
            if database.intent is Intent.PURGE or (database.purge_at or self.now + 1) <= self.now:
                continue
            other = best.get(database.instance_id)
            if other is None or (database.live, database.archived_at or 0) > (other.live, other.archived_at or 0):
                best[database.instance_id] = database
        return list(best.values())

    # timelines whose branch is there

    def _present(self, timeline: Timeline) -> Iterator[Action]:
        revision = self.desired.branches[timeline.branch]
        mark = (self.desired.marks or {}).get(timeline.branch, timeline.rename_mark)
        if timeline.gone_at is not None or (timeline.revision, timeline.rename_mark) != (revision, mark):
            yield Note(timeline, revision, None, mark)
        chosen = {database.instance_id: database for database in self._newest(timeline)}
        for instance in self.desired.instances:
            if instance.id not in chosen:
                yield Create(timeline, instance)
        for database in self.databases[timeline.id]:
            if chosen.get(database.instance_id) is database and database.instance_id in self.instances:
                yield from self._keep_connected(database, timeline)
            elif database.live:
                if self._due(database):
                    yield Archive(database, timeline, "unassigned", None)
            else:
                yield from self._keep_archived(database, timeline)

    def _keep_connected(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        if database.hold is Hold.ARCHIVED:
            if not database.live:
                yield from self._keep_archived(database, timeline)
            elif self._due(database):
                yield Archive(database, timeline, "archived by hand", None)
            return
        if database.hold is Hold.CONNECTED:
            yield Release(database, timeline)
        if _settled(database) or not self._due(database):
            return
        match database.status:
            case Status.ARCHIVED:
                yield Ensure(database, timeline, "its branch is back")
            case Status.ERROR:
                yield Ensure(database, timeline, "retry")
            case _:
                yield Ensure(database, timeline, "was cut off")

    def _due(self, database: Database) -> bool:
        """Has the time come to try again what failed last? Always so where nothing failed."""
        if database.intent is Intent.REPLACE:  # which is finished before anything is planned, unless the disk refuses
            if database.retry_at is not None:
                self._at(database.retry_at)
            return False
        if database.retry_at is None or self.retry or database.retry_at <= self.now:
            return True
        self._at(database.retry_at)
        return False

    # timelines whose branch is gone

    def _absent(self, timeline: Timeline) -> Iterator[Action]:
        live = [database for database in self.databases[timeline.id] if database.live]
        for database in self.databases[timeline.id]:
            if database.live:
                continue
            if database.hold is Hold.CONNECTED and self._due(database):
                yield Ensure(database, timeline, "recovered by hand")
            else:
                yield from self._keep_archived(database, timeline)
        if not live:
            return
        gone_at = timeline.gone_at if timeline.gone_at is not None else self.now
        if timeline.gone_at is None:
            yield Note(timeline, timeline.revision, gone_at, timeline.rename_mark)
        over = gone_at + self.app.grace_ms
        if over > self.now:
            self._at(over)
            return
        for database in live:
            if timeline.production:
                yield from self._miss_production(database, timeline)
            elif database.hold is Hold.CONNECTED:
                if database.intent is not None and self._due(database):
                    yield Ensure(database, timeline, "recovered by hand")
            elif self._due(database):
                here = timeline.branch in self.desired.branches
                yield self._archive(
                    database, timeline, "its branch is production now" if here else "its branch is gone"
                )

    def _miss_production(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        why = (
            f"the production branch {_text(timeline.branch)} is gone from the repository; its data is kept. Push it"
            f" again, or name another: provisioner app set --app {self.app.slug} --production-branch BRANCH"
        )
        if database.status is not Status.ERROR or database.error != why:
            yield Fail(database, timeline, why)

    def _keep_archived(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        if not self._due(database):
            return
        if database.intent is Intent.PURGE:
            yield Purge(database, timeline, "was cut off")
        elif database.intent is not None:
            yield self._archive(database, timeline, "was cut off")
        elif database.purge_at is not None and database.purge_at <= self.now:
            yield Purge(database, timeline, "its retention time is over")
        elif database.purge_at is not None:
            self._at(database.purge_at)

    def _archive(self, database: Database, timeline: Timeline, cause: str) -> Archive:
        purge_at = database.purge_at or self.now + self.app.retention_ms
        return Archive(database, timeline, cause, purge_at)


def _settled(database: Database) -> bool:
    return database.status is Status.CONNECTED and database.intent is None


def _text(branch: bytes) -> str:
    return branch.decode("utf-8", "backslashreplace")
