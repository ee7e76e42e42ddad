"""What the refs and the registry say of an app, as far as a plan has to look at it.

A timeline is left out if nothing is to be done about it: its databases are as they should be, and its branch is there at
its revision. So a look at thousands of branches costs the listing of their refs and one question to the registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Share, Timeline
from provisioner.reconcile.branch_identity import identities
from provisioner.reconcile.plan.actions import Actual, Desired
from provisioner.reconcile.repository_identity import wrong
from provisioner.registry import queries
from provisioner.registry.home.observed_time import recoverable_until, waited
from provisioner.registry.instances import deleted
from provisioner.registry.settled import settled
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Observation:
    """The input of a plan. `next_at`: when (ms) time alone changes something about the omitted timelines."""

    desired: Desired
    actual: Actual
    next_at: int | None


def observe(
    registry: Registry, app: App, now: int, also: Collection[TimelineId] = (), *, by_the_clock: bool = False
) -> Observation:
    """Look at an app at `now` (ms); the timelines with these ids are `also` in it, whatever is the matter with them.

    `by_the_clock`: what has waited long enough by the wall clock has waited long enough.

    Raises UnreadableRepository.
    """
    gone = {
        item.instance.id: item.purge_at if by_the_clock else recoverable_until(registry, item, now)
        for item in deleted(registry)
    }
    quiet = settled(registry, app, now, gone)
    looked_at = queries.timelines_of(registry, [*quiet.unsettled, *also])
    sharing = [timeline.id for timeline in looked_at if timeline.sharing]  # every timeline that shares is looked at
    shared = tuple(queries.shares_of_all(registry, sharing))
    unsettled = _held(registry, looked_at, shared)
    seen = identities(app, quiet.lineages, quiet.marks, quiet.live | _expected(unsettled, gone))
    if problem := wrong(registry, app):  # another repository may have come to the path before its refs were read
        raise problem
    names = {timeline.branch for timeline in unsettled.timelines if not timeline.preview}
    names |= {branch for branch, revision in seen.branches.items() if quiet.revisions.get(branch) != revision}
    names |= quiet.live - seen.branches.keys()
    names |= {name for rename in seen.renames for name in (rename.old, rename.new)}
    names |= seen.lineages.keys() | seen.unowned.keys() | seen.unclear.keys()
    doubted = _doubted(registry, unsettled.timelines)
    names |= {timeline.branch for timeline in doubted if not timeline.preview}
    others = {item.id: item for item in (*unsettled.timelines, *doubted) if item.preview}.values()
    actual = _held(registry, [*queries.of_branches(registry, app.id, names), *others], shared)
    long_enough = dict.fromkeys((database.id for database in actual.databases), app.retention_ms)
    actual = replace(actual, waited=long_enough if by_the_clock else waited(registry, now))
    desired = Desired(
        app,
        {branch: revision for branch, revision in seen.branches.items() if branch in names},
        tuple(registry.assigned(app.id)),
        seen.renames,
        seen.lineages,
        seen.unowned,
        seen.unclear,
        seen.renewed,
        deleted=gone,
    )
    return Observation(desired, actual, quiet.next_at(seen.branches, names))


def _held(registry: Registry, timelines: Sequence[Timeline], shared: tuple[Share, ...]) -> Actual:
    """Timelines with their databases, and what any timeline of their app shares."""
    found = queries.databases_of_all(registry, [timeline.id for timeline in timelines])
    return Actual(tuple(timelines), tuple(found), shared)


def _doubted(registry: Registry, timelines: Iterable[Timeline]) -> list[Timeline]:
    """The timelines that have the databases which may be those of one of the `timelines`."""
    ids = [DatabaseId(each) for timeline in timelines for each in timeline.doubt.split()]
    found = queries.databases_by_ids(registry, ids)
    return queries.timelines_of(registry, {database.timeline_id for database in found})


def _expected(actual: Actual, gone: Mapping[InstanceId, int]) -> set[bytes]:
    """The branches that are expected to be there: they have data in use, or on instances of the `gone` ones, which were
    deleted."""
    used = {database.timeline_id for database in actual.databases if database.live and database.hold is None}
    used |= {share.timeline_id for share in actual.shares}
    if gone:
        there = {timeline.id for timeline in actual.timelines if timeline.gone_at is None}
        lost = {item.timeline_id for item in actual.databases if item.instance_id in gone and item.hold is None}
        used |= lost & there
    return {item.branch for item in actual.timelines if item.id in used and not item.preview}
