"""What following the renames of branches takes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from provisioner.core.ids import DatabaseId
from provisioner.core.model import Database, Hold, Timeline
from provisioner.reconcile.plan.actions import Action, Ensure, Orphan, RenameTimeline
from provisioner.reconcile.plan.planner_context import PlannerContext, resting, text


def follows(look: PlannerContext) -> tuple[list[Action], set[bytes]]:
    """What following the renames takes now, and the branches that nothing else is to be done about before."""
    by_branch = {timeline.branch: timeline for timeline in look.actual.timelines if timeline.of_branch}
    pending: list[RenameTimeline] = []
    for rename in look.desired.renames:
        old = by_branch.get(rename.old)
        if old is None or look.app.production in (rename.old, rename.new):
            continue  # production's data neither comes nor goes by a rename: a person decides
        moving = tuple(database for database in look.newest(old) if database.hold is None)
        shares = tuple(look.shares[old.id].values())
        kept = tuple(item for item in look.lost[old.id] if resting(item))
        kept += tuple(item for item in look.newest(old) if item.hold is Hold.ARCHIVED and not item.live)
        if moving or shares or kept or old.doubt:
            revision = look.desired.branches[rename.new]
            pending.append(RenameTimeline(old, rename.new, revision, rename.lineage, moving, shares, kept))
    leaving = {database.id for follow in pending for database in follow.databases}
    while barred := [follow for follow in pending if _protected(look, by_branch.get(follow.new), leaving)]:
        pending = [follow for follow in pending if follow not in barred]
        leaving -= {database.id for follow in barred for database in follow.databases}
    steps: list[Action] = []
    going: dict[bytes, RenameTimeline] = {}
    for follow in pending:
        first = list(_before(look, follow, by_branch.get(follow.new), leaving))
        steps += first
        if not first and all(database.settled for database in _used(follow)):
            going[follow.new] = follow
    while stuck := going.keys() & {follow.old.branch for follow in pending if follow.new not in going}:
        for name in stuck:  # its current database cannot leave yet
            del going[name]
    return [*steps, *going.values()], {name for follow in pending for name in (follow.old.branch, follow.new)}


def _protected(look: PlannerContext, new: Timeline | None, leaving: Collection[DatabaseId]) -> bool:
    """Would data that is not to go have to make room?"""
    if new is None:
        return False
    staying = [item for item in look.databases[new.id] if item.live and item.id not in leaving]
    return any(new.protected or look.shared(database) for database in staying)


def _used(follow: RenameTimeline) -> list[Database]:
    """The databases that are to be live: not those in whose place another's is shared."""
    aside = {share.instance_id for share in follow.shares}
    return [database for database in follow.databases if database.live or database.instance_id not in aside]


def _before(
    look: PlannerContext, follow: RenameTimeline, new: Timeline | None, leaving: set[DatabaseId]
) -> Iterator[Action]:
    """First make room and have the data live, then move it: two plans, since each step may fail separately."""
    cause = f"replaced: {text(follow.old.branch)} was renamed to {text(follow.new)}"
    if new is not None:
        staying = tuple(item for item in look.databases[new.id] if item.live and item.id not in leaving)
        if any(database.hold is not Hold.ORPHANED for database in staying):
            yield Orphan(new, staying, (), cause)
        yield from (look.archive(database, new, cause) for database in staying if database.hold is Hold.ORPHANED)
    for database in _used(follow):
        if not database.settled and look.due(database):
            yield Ensure(database, follow.old, "its branch was renamed")
