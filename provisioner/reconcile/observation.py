"""What the refs and the registry say of an app, as far as a plan has to look at it.

A timeline is left out if nothing is to be done about it: its databases are as they should be, and its branch is there at
its revision. So a look at thousands of branches costs the listing of their refs and one question to the registry.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from provisioner.core.errors import UnreadableRepository
from provisioner.core.model import App, Share, Timeline
from provisioner.git.reflog import Log, has_reflogs, read_logs
from provisioner.git.refs import read_branches, still_there
from provisioner.reconcile.plan.actions import Actual, Desired, Rename
from provisioner.reconcile.plan.rename_detection import carried, unseen
from provisioner.registry import queries
from provisioner.registry.instances import deleted
from provisioner.registry.settled import Settled, settled
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry

MOST_LOOKS = 5
RENAME_MS = 60_000  # how long after its archiving a branch can still turn out to have been renamed


@dataclass(frozen=True, slots=True)
class Observation:
    """What a plan is made of. `next_at`: when (ms) time alone changes something about what was left out."""

    desired: Desired
    actual: Actual
    next_at: int | None


@dataclass(frozen=True, slots=True)
class _Refs:
    """The branches with their commits, what was renamed, and what to remember of the reflogs, by branch."""

    branches: dict[bytes, str]
    renames: tuple[Rename, ...] = ()
    marks: dict[bytes, str] | None = None


def observe(registry: Registry, app: App, now: int, also: Collection[str] = ()) -> Observation:
    """Look at an app at `now` (ms); the timelines with these ids are `also` in it, whatever is the matter with them.

    Raises UnreadableRepository.
    """
    gone = {item.instance.id: item.purge_at for item in deleted(registry)}
    quiet = settled(registry, app, now, gone)
    shared = tuple(shares(registry, app.id))
    unsettled = _held(registry, queries.timelines_of(registry, [*quiet.unsettled, *also]), shared)
    refs = _read_refs(registry, app, quiet, unsettled, gone, now)
    names = {timeline.branch for timeline in unsettled.timelines if not timeline.preview}
    names |= {branch for branch, revision in refs.branches.items() if quiet.revisions.get(branch) != revision}
    names |= quiet.live - refs.branches.keys()
    names |= {name for rename in refs.renames for name in (rename.old, rename.new)}
    names |= {branch for branch, mark in (refs.marks or {}).items() if quiet.marks.get(branch, "") != mark}
    previews = [timeline for timeline in unsettled.timelines if timeline.preview]
    actual = _held(registry, [*queries.of_branches(registry, app.id, names), *previews], shared)
    desired = Desired(
        app,
        {branch: revision for branch, revision in refs.branches.items() if branch in names},
        tuple(registry.assigned(app.id)),
        refs.renames,
        refs.marks,
        deleted=gone,
    )
    return Observation(desired, actual, quiet.next_at(refs.branches, names))


def _held(registry: Registry, timelines: Sequence[Timeline], shared: tuple[Share, ...]) -> Actual:
    """Timelines with their databases, and what any timeline of their app shares."""
    found = queries.databases_of_all(registry, [timeline.id for timeline in timelines])
    return Actual(tuple(timelines), tuple(found), shared)


def _read_refs(
    registry: Registry, app: App, quiet: Settled, unsettled: Actual, gone: Mapping[str, int], now: int
) -> _Refs:
    watched = _watched(unsettled, gone, now)
    expected = quiet.live | {branch for branch, live in watched.items() if live}
    branches = _stable_branches(app, expected)
    if not has_reflogs(app.git_dir):
        return _Refs(branches)
    seen = {mark for marks in quiet.marks.values() for mark in marks.split()}
    branches, logs = _stable_logs(app, branches, expected, seen)
    sources = {move.old for branch, log in logs.items() for move in unseen(branch, log, seen)}
    left = _held(registry, queries.of_branches(registry, app.id, sources), unsettled.shares)
    movable = sources & (quiet.live | watched.keys() | _watched(left, gone, now).keys())
    origins = carried(logs, seen, movable - {app.production}, app.production)
    known = quiet.marks
    renames = tuple(Rename(old, new, _marks(known.get(new, ""), logs[new])) for new, old in origins.items())
    # what is not yet followed must not be taken for seen, which the copy of a log could bring about
    waiting = {move.mark for new in origins for move in unseen(new, logs[new], seen)}
    marks = {branch: _marks(known.get(branch, ""), log, waiting) for branch, log in logs.items()}
    return _Refs(branches, renames, marks)


def _watched(actual: Actual, gone: Mapping[str, int], now: int) -> dict[bytes, bool]:
    """The branches whose data may go along with a rename; True for those that are expected to be there. `gone` are the
    instances that were deleted."""
    moving = {
        database.timeline_id: database.live
        for database in sorted(actual.databases, key=lambda database: database.live)
        if database.hold is None and (database.live or (database.archived_at or 0) > now - RENAME_MS)
    }
    moving |= {share.timeline_id: True for share in actual.shares}
    if gone:
        there = {timeline.id for timeline in actual.timelines if timeline.gone_at is None}
        lost = {item.timeline_id for item in actual.databases if item.instance_id in gone and item.hold is None}
        moving |= dict.fromkeys(lost & there, True)
    return {
        timeline.branch: moving[timeline.id]
        for timeline in actual.timelines
        if timeline.id in moving and not timeline.preview
    }


def _stable_logs(
    app: App, branches: dict[bytes, str], expected: Set[bytes], seen: Set[str]
) -> tuple[dict[bytes, str], dict[bytes, Log]]:
    """Branches and logs of the same moment: read again where there was a rename, until both hold still."""
    logs = read_logs(app.git_dir, branches)
    for _ in range(MOST_LOOKS):
        if not any(unseen(branch, log, seen) for branch, log in logs.items()):
            return branches, logs
        branches = _stable_branches(app, expected)
        again = read_logs(app.git_dir, branches)
        if again == logs:
            return branches, logs
        logs = again
    raise _restless(app)


def _marks(known: str, log: Log, waiting: Collection[str] = ()) -> str:
    """A rename that was seen once stays seen, also when git has dropped it from the log."""
    return " ".join(dict.fromkeys([*known.split(), *(move.mark for move in log.moves if move.mark not in waiting)]))


def _stable_branches(app: App, expected: Set[bytes]) -> dict[bytes, str]:
    """The branches, with what seems to be missing looked up again by name."""
    for _ in range(MOST_LOOKS):
        branches = read_branches(app.git_dir)
        if not still_there(app.git_dir, expected - branches.keys()):
            return branches
    raise _restless(app)


def _restless(app: App) -> UnreadableRepository:
    return UnreadableRepository(
        f"the refs of {os.fsdecode(app.git_dir)} do not hold still", "Run 'provisioner reconcile' when git is done"
    )
