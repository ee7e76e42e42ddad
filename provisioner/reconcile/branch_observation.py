"""A look at a few branches of an app alone: what a plan for them is made of, if it depends on no other branch.

A push names the branches that it moved. They are read from git and the registry by their names, so that the cost does not grow
with the number of the others. What a look at the whole app would do about them is the same:
`tests/reconcile/test_branch_observation.py` compares the two. If these branches alone do not determine that, there is no
such look. The named branches are only a hint: one that has not changed has an empty plan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from provisioner.core.model import App, Timeline
from provisioner.git.lineage import anchor_name, unchanged
from provisioner.git.reflog import keeps_logs
from provisioner.git.refs import read_named
from provisioner.reconcile.observation import Observation
from provisioner.reconcile.plan.actions import Actual, Desired
from provisioner.reconcile.repository_identity import wrong
from provisioner.registry import queries
from provisioner.registry.home.observed_time import recoverable_until, waited
from provisioner.registry.instances import deleted
from provisioner.registry.store import Registry

MOST_BRANCHES = 64  # beyond that, reading all of them at once costs less


def observe_branches(registry: Registry, app: App, now: int, branches: Collection[bytes]) -> Observation | None:
    """Look at these branches of an app at `now` (ms). None if the whole app must be looked at.

    Raises UnreadableRepository.
    """
    if len(branches) > MOST_BRANCHES:
        return None
    timelines = queries.of_branches(registry, app.id, branches)
    databases = queries.databases_of_all(registry, [timeline.id for timeline in timelines])
    used = queries.shares_in(registry, [database.id for database in databases])
    if used or not _independent(app, branches, timelines):
        return None
    there = read_named(app.git_dir, branches)
    if there is None or not _identified(app, branches, there, timelines):
        return None
    if problem := wrong(registry, app):  # another repository may have come to the path before its refs were read
        raise problem
    gone = {item.instance.id: recoverable_until(registry, item, now) for item in deleted(registry)}
    desired = Desired(app, there, tuple(registry.assigned(app.id)), deleted=gone)
    actual = Actual(tuple(timelines), tuple(databases), waited=waited(registry, now))
    return Observation(desired, actual, None)


def _independent(app: App, branches: Collection[bytes], timelines: Sequence[Timeline]) -> bool:
    """Does the registry have everything that matters for these branches in the rows of their timelines?"""
    if any(timeline.sharing or timeline.doubt for timeline in timelines):
        return False
    production = [timeline for timeline in timelines if timeline.production]
    if any(timeline.branch != app.production for timeline in production):
        return False
    return app.production not in branches or bool(production)


def _identified(
    app: App, branches: Collection[bytes], there: Mapping[bytes, str], timelines: Sequence[Timeline]
) -> bool:
    """Is each branch, by its name, the one that the registry knows by this name, or a new one?

    Without reflogs, a name is all there is. With them, only a branch whose log is where it was is surely the same: any other
    one may be a renamed one, and git shows that by the logs of all. In both cases, a branch that is gone beside a new one may
    be an old one with a new name.
    """
    known = {timeline.branch: timeline for timeline in timelines if timeline.of_branch}
    present = {timeline.branch for timeline in timelines if timeline.gone_at is None and not timeline.preview}
    if not present <= there.keys() and not there.keys() <= present:
        return False
    if not keeps_logs(app.git_dir):
        return True
    same = all(name == app.production or _is_the_same(app, name, known.get(name)) for name in there)
    return same and len(there) == len(branches)


def _is_the_same(app: App, branch: bytes, timeline: Timeline | None) -> bool:
    if timeline is None or timeline.gone_at is not None:
        return False
    by_file = not timeline.lineage or bool(anchor_name(timeline.lineage))
    return by_file and unchanged(app.git_dir, app.id, branch, timeline.lineage)
