"""The actions that make the databases match the refs. Pure: values in, values out.

A plan may be carried out in part, and planned again: the next plan contains the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.model import Database, Hold, Intent, Status, Timeline
from provisioner.reconcile.plan.actions import (
    Action,
    Actual,
    Archive,
    ClearHold,
    Create,
    Desired,
    Ensure,
    Fail,
    OpenTimeline,
    Orphan,
    Plan,
    Purge,
    Renew,
    Unshare,
    UpdateTimeline,
)
from provisioner.reconcile.plan.plan_renames import follows
from provisioner.reconcile.plan.planner_context import PlannerContext, Retry, resting, text


def plan(desired: Desired, actual: Actual, now: int, *, retry: Retry = False) -> Plan:
    """The difference between `desired` and `actual` at `now` (ms). `retry` does not wait for a retry's time."""
    return _Planner(PlannerContext(desired, actual, now, retry)).plan()


class _Planner:
    def __init__(self, look: PlannerContext) -> None:
        self.look, self.desired, self.app, self.now = look, look.desired, look.app, look.now

    def plan(self) -> Plan:
        actions, moving = follows(self.look)
        known = set()
        for timeline in self.look.actual.timelines:
            cause = self.desired.unowned.get(timeline.branch)
            if cause is None and timeline.branch in self.desired.unclear:
                cause = "git does not show which branch has its name now"
            unowned = cause is not None and timeline.of_branch and timeline.branch not in moving
            if unowned and (orphan := self._orphan(timeline, cause or "")):
                actions.append(orphan)
                moving.add(timeline.branch)
        for timeline in self.look.actual.timelines:
            for database in self.look.lost[timeline.id]:
                actions.extend(self._lost(database, timeline))
            actions.extend(self._renewed(timeline))
            if timeline.of_branch:
                known.add(timeline.branch)
                if timeline.branch in moving:
                    continue
            if timeline.preview:
                actions.extend(self._preview(timeline))
            elif self._wanted(timeline):
                actions.extend(self._present(timeline))
            else:
                actions.extend(self._absent(timeline))
        has_production = any(timeline.production for timeline in self.look.actual.timelines)
        known |= moving
        for branch, revision in self.desired.branches.items():
            production = branch == self.app.production
            new = not has_production if production else branch not in known
            if new:
                lineage = "" if production else self.desired.lineages.get(branch, "")
                actions.append(OpenTimeline(branch, production, revision, lineage, self.look.doubts(branch)))
        return Plan(tuple(actions), self.look.next_at)

    def _orphan(self, timeline: Timeline, cause: str) -> Orphan | None:
        """Takes a timeline's databases, and what may be its own, from the branch that has its name now; None if it has none."""
        mine = self.look.databases[timeline.id] + self.look.lost[timeline.id]
        databases = tuple(
            item for item in mine if item.hold in (None, Hold.CONNECTED) and item.intent is not Intent.PURGE
        )
        shares = tuple(self.look.shares[timeline.id].values())
        there = timeline.branch in self.desired.branches
        lineage = self.desired.lineages.get(timeline.branch, "") if there else ""
        doubt = self.look.doubts(timeline.branch) if there else ""
        if not databases and not shares and (not timeline.doubt or timeline.doubt == doubt):
            return None
        return Orphan(timeline, databases, shares, cause, lineage, doubt)

    def _renewed(self, timeline: Timeline) -> Iterator[Action]:
        for database in self.look.databases[timeline.id]:
            if database.to_renew and database.settled and self.look.due(database):
                yield Renew(database, timeline)

    def _wanted(self, timeline: Timeline) -> bool:
        if timeline.branch not in self.desired.branches:
            return False
        return timeline.production or timeline.branch != self.app.production

    def _lost(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        """Its instance was deleted: what is said of it stays, for when that is recovered, and so does its own time."""
        if not self.look.due(database):
            return
        over = (self.desired.deleted or {})[database.instance_id]
        own = self.look.over_at(database)
        over = over if own is None else min(over, own)
        if database.intent is not Intent.PURGE and (database.live or database.intent is not None):
            yield Archive(database, timeline, "its instance was deleted", database.purge_at)
        elif timeline.protected and database.intent is not Intent.PURGE:
            return
        elif database.intent is Intent.PURGE or over <= self.now:
            yield Purge(database, timeline, "its instance was deleted, and the time to recover it is over")
        else:
            self.look.at(over)

    # timelines whose branch is there

    def _present(self, timeline: Timeline) -> Iterator[Action]:
        revision = self.desired.branches[timeline.branch]
        lineage, doubt = self._lineage(timeline), self.look.doubt(timeline)
        pushed = timeline.gone_at is not None or timeline.revision != revision
        if pushed or timeline.lineage != lineage or timeline.doubt != doubt:
            yield UpdateTimeline(timeline, revision, None, lineage, doubt)
        if not pushed and self.look.expired(timeline):
            yield from self._put_away(timeline, "its time is over: nothing was pushed to it since")
        else:
            yield from self._connected(timeline)

    def _lineage(self, timeline: Timeline) -> str:
        return self.desired.lineages.get(timeline.branch, timeline.lineage) if timeline.of_branch else ""

    def _connected(self, timeline: Timeline) -> Iterator[Action]:
        chosen = {database.instance_id: database for database in self.look.newest(timeline)}
        shares = self.look.shares[timeline.id]
        if not self.look.doubt(timeline):
            leaving = {item.instance_id for item in self.look.databases[timeline.id] if item.live}
            taken = chosen.keys() | shares.keys() | leaving
            yield from (Create(timeline, instance) for instance in self.desired.instances if instance.id not in taken)
        for database in self.look.databases[timeline.id]:
            if database.hold is Hold.ORPHANED:
                yield from self._keep_orphan(database, timeline)
            elif database.instance_id in shares and database.instance_id in self.look.instances:
                yield from self._keep_aside(database, timeline)
            elif chosen.get(database.instance_id) is database and database.instance_id in self.look.instances:
                yield from self._keep_connected(database, timeline)
            elif database.live:
                if self.look.due(database):
                    yield Archive(database, timeline, "unassigned", None)
            else:
                yield from self._keep_archived(database, timeline)

    def _keep_orphan(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        """It belonged to a branch that was called so before, or may have: it is archived, whatever branch is there now."""
        if not database.live:
            yield from self._keep_archived(database, timeline)
        elif self.look.due(database):
            yield self.look.archive(database, timeline, "it belongs to no branch: see its history")

    def _keep_aside(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        """A shared database is used instead of this one."""
        if not database.live:
            yield from self._keep_archived(database, timeline)
        elif self.look.due(database):
            yield Archive(database, timeline, "another timeline's database is shared", None)

    def _end_shares(self, timeline: Timeline, cause: str) -> Iterator[Action]:
        """The retention period of the databases archived for a share starts now, as if they had been live until now."""
        shares = self.look.shares[timeline.id]
        for database in self.look.databases[timeline.id]:
            if resting(database) and database.instance_id in shares and database.purge_at is None:
                yield self.look.archive(database, timeline, cause)
        for share in shares.values():
            yield Unshare(timeline, share, cause)

    def _keep_connected(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        if database.hold is Hold.ARCHIVED:
            if not database.live:
                yield from self._keep_archived(database, timeline)
            elif self.look.due(database):
                yield Archive(database, timeline, "archived by hand", None)
            return
        if database.hold is Hold.CONNECTED:
            yield ClearHold(database, timeline)
        if database.settled or not self.look.due(database) or database.copied_aside:
            return
        match database.status:
            case Status.ARCHIVED:
                yield Ensure(database, timeline, "its branch is back")
            case Status.ERROR:
                yield Ensure(database, timeline, "retry")
            case _:
                yield Ensure(database, timeline, "was cut off")

    # timelines whose time is over

    def _preview(self, timeline: Timeline) -> Iterator[Action]:
        if timeline.gone_at is not None:
            yield from self._put_away(timeline, "the preview was deleted")
        elif self.look.expired(timeline):
            yield from self._put_away(timeline, "the preview's time is over")
        else:
            yield from self._connected(timeline)

    def _put_away(self, timeline: Timeline, cause: str) -> Iterator[Action]:
        yield from self._end_shares(timeline, cause)
        for database in self.look.databases[timeline.id]:
            if database.hold is Hold.ORPHANED:
                yield from self._keep_orphan(database, timeline)
            elif self.look.shared(database):
                yield from self._keep_for_others(database, timeline)
            elif not database.live:
                yield from self._keep_archived(database, timeline)
            elif database.hold is Hold.CONNECTED:
                yield ClearHold(database, timeline)
            elif self.look.due(database):
                yield self.look.archive(database, timeline, cause)

    def _keep_for_others(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        if not database.settled and self.look.due(database):
            yield Ensure(database, timeline, "another timeline shares it")

    # timelines whose branch is gone

    def _absent(self, timeline: Timeline) -> Iterator[Action]:
        mine = self.look.databases[timeline.id]
        for database in mine:
            if database.hold is Hold.ORPHANED and database.live:
                yield from self._keep_orphan(database, timeline)
        live = [database for database in mine if database.live and database.hold is not Hold.ORPHANED]
        shares = self.look.shares[timeline.id]
        for database in self.look.databases[timeline.id]:
            if database.live:
                continue
            if self.look.shared(database):
                yield from self._keep_for_others(database, timeline)
            elif database.hold is Hold.CONNECTED and self.look.due(database):
                yield Ensure(database, timeline, "recovered by hand")
            else:
                yield from self._keep_archived(database, timeline)
        endless = [] if timeline.production or timeline.protected else list(self._endless(timeline))
        used = bool(live or endless or shares or self.look.lost[timeline.id])
        gone_at = timeline.gone_at if timeline.gone_at is not None else self.now
        lineage = self._lineage(timeline)
        # a branch that is gone is in doubt no longer, with databases or without
        orphaned = any(database.hold is Hold.ORPHANED for database in mine)
        leaves = timeline.gone_at is None and (used or timeline.doubt or orphaned)
        if leaves or lineage != timeline.lineage:
            yield UpdateTimeline(timeline, timeline.revision, gone_at, lineage)
        if not used:
            return
        over = gone_at + self.app.grace_ms
        if over > self.now and not timeline.protected:
            self.look.at(over)
            yield from (
                Ensure(database, timeline, "retry")
                for database in live
                if database.status is Status.ERROR and self.look.due(database)
            )
            return
        for database in endless:
            yield self.look.archive(database, timeline, "its branch is gone")
        yield from (Unshare(timeline, share, "its branch is gone") for share in shares.values())
        for database in live:
            yield from self._left(database, timeline)

    def _endless(self, timeline: Timeline) -> Iterator[Database]:
        """Databases kept for as long as their branch exists: their instance was not assigned, or another's was shared."""
        for database in self.look.databases[timeline.id]:
            kept = resting(database) and database.purge_at is None and database.instance_id in self.look.instances
            if kept and not self.look.shared(database):
                yield database

    def _left(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        """A live database whose branch has been gone for long enough."""
        if timeline.production:
            yield from self._miss_production(database, timeline)
        elif self.look.shared(database):
            yield from self._keep_for_others(database, timeline)
        elif timeline.protected or database.hold is Hold.CONNECTED:
            if not database.settled and self.look.due(database) and not database.copied_aside:
                yield Ensure(database, timeline, "protected" if timeline.protected else "recovered by hand")
        elif self.look.due(database):
            here = timeline.branch in self.desired.branches
            yield self.look.archive(
                database, timeline, "its branch is production now" if here else "its branch is gone"
            )

    def _miss_production(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        why = (
            f"the production branch {text(timeline.branch)} is gone from the repository; its data is kept. Push it"
            f" again, or name another: provisioner app set --app {self.app.slug} --production-branch BRANCH"
        )
        if database.status is not Status.ERROR or database.error != why:
            yield Fail(database, timeline, why)

    def _keep_archived(self, database: Database, timeline: Timeline) -> Iterator[Action]:
        if not self.look.due(database):
            return
        if database.intent is Intent.PURGE:
            yield Purge(database, timeline, "a person asked for it, or it was cut off")
        elif database.intent is not None:
            yield self.look.archive(database, timeline, "was cut off")
        elif timeline.protected and database.hold is not Hold.ARCHIVED:
            return
        elif (over := self.look.over_at(database)) is not None:
            if over <= self.now:
                yield Purge(database, timeline, "its retention period is over")
            else:
                self.look.at(over)
