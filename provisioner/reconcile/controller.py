"""One app at a time: read what is, plan, apply, until there is nothing left to do. Everything that wakes ends here."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace

from provisioner.core.errors import UnreadableRepository
from provisioner.core.model import App, Database, Instance, Status
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.location import is_kept
from provisioner.git.reflog import Log, has_reflogs, read_logs
from provisioner.git.refs import read_branches, still_there
from provisioner.reconcile.apply.applier import Applier, Progress
from provisioner.reconcile.apply.apply_renames import follow
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.changes.move_recovery import settle_moves
from provisioner.reconcile.changes.replace import settle
from provisioner.reconcile.changes.revision_snapshots import Moved, keep, moves
from provisioner.reconcile.changes.run_records import settle_runs
from provisioner.reconcile.plan.actions import Action, Actual, Archive, Desired, Follow, Note, Open, Plan, Rename
from provisioner.reconcile.plan.planner import plan
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.reconcile.plan.rename_detection import carried, unseen
from provisioner.registry.instances import deleted, gone
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry
from provisioner.system import temp_dirs

MOST_PASSES = 8  # a rename over an existing branch takes three
MOST_LOOKS = 5
RENAME_MS = 60_000  # how long after its archiving a branch can still turn out to have been renamed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconcile did, and when (ms) time alone will make the next one necessary."""

    actions: int
    next_at: int | None


def reconcile(
    registry: Registry,
    app: App,
    now: int,
    cause: str,
    *,
    retry: Retry = False,
    progress: Progress | None = None,
) -> Outcome:
    """Bring the app's databases to what its refs say.

    `cause` goes into the audit log. `retry` tries at once again what has failed: everything, or the databases with these
    ids. Raises `UnreadableRepository` (then nothing was changed), `Busy` and `StorageFailed`. Failures of single databases
    are in their status, not raised.
    """
    kept: set[Moved] = set()
    while True:
        with app_locked(registry, app):
            outcome = _reconcile(registry, app, now, cause, kept, retry, progress)
        if isinstance(outcome, Outcome):
            _retire(registry, now)
            return outcome
        keep(registry, app, outcome, now)  # which copies, and so is done without the app's lock
        kept |= set(outcome)


def _reconcile(
    registry: Registry, app: App, now: int, cause: str, kept: set[Moved], retry: Retry, progress: Progress | None
) -> Outcome | list[Moved]:
    """The same under the app's lock; or whose data is to be kept first, of those that are not in `kept`."""
    done = 0
    temp_dirs.clear(registry.home)
    settle_moves(registry, app, now)
    settle_runs(registry, app, now)
    settle(registry, app, now)
    if retry:
        _find_damage(registry, app, now, cause, retry)
    for _ in range(MOST_PASSES):
        current = registry.app(app.id)
        if current is None:
            return Outcome(done, None)
        step = look(registry, current, now, retry=False if done else retry)
        if unkept := [each for each in moves(registry, current, step.actions) if each not in kept]:
            return unkept
        if not step.actions:
            return Outcome(done, step.next_at)
        if renamed := [action for action in step.actions if isinstance(action, Follow)]:
            follow(registry, current, renamed, now)
        applier = Applier(registry, current, now, cause, progress)
        applier.apply([action for action in step.actions if not isinstance(action, Follow)])
        done += len(step.actions)
        if not applier.failed and all(isinstance(action, Open | Note) for action in step.actions):
            return Outcome(done, step.next_at)  # what they lead to is done; a push need not wait for another look
    return Outcome(done, now)


def _retire(registry: Registry, now: int) -> None:
    """Of instances that were deleted for good, servers of the home's own go, too."""
    for instance in gone(registry, now):
        if is_kept(instance.location):
            engine_of(instance).retire(instance)


def archive_all(registry: Registry, app: App, now: int, cause: str) -> None:
    """Archive and keep every live database of an app, whatever its refs say: its repository may be gone."""
    with app_locked(registry, app):
        timelines = {timeline.id: timeline for timeline in registry.timelines(app.id)}
        live = [database for database in registry.databases(app.id) if database.live]
        Applier(registry, app, now, cause).apply(
            [Archive(database, timelines[database.timeline_id], cause, None) for database in live]
        )


def archive_instance(registry: Registry, app: App, instance: Instance, now: int, cause: str) -> None:
    """Archive every live database of an app on an instance that was deleted, whatever its refs say."""
    with app_locked(registry, app):
        settle(registry, app, now)
        timelines = {timeline.id: timeline for timeline in registry.timelines(app.id)}
        live = [item for item in registry.databases(app.id) if item.live and item.instance_id == instance.id]
        Applier(registry, app, now, cause).apply(
            [Archive(item, timelines[item.timeline_id], cause, item.purge_at) for item in live]
        )


def preview(registry: Registry, app: App, now: int) -> Plan:
    """What `reconcile` with `retry` would begin with; changes nothing."""
    found = {database.id: database for database in damaged(registry, app)}
    databases = tuple(found.get(database.id, database) for database in registry.databases(app.id))
    actual = Actual(tuple(registry.timelines(app.id)), databases, tuple(shares(registry, app.id)))
    return plan(_desired(registry, app, actual, now), actual, now, retry=True)


def _find_damage(registry: Registry, app: App, now: int, cause: str, asked: Retry) -> None:
    """Call connected databases that are lost or damaged what they are, so that they are tried and reported."""
    found = damaged(registry, app, None if isinstance(asked, bool) else asked)
    if found:
        with registry.change():
            registry.save_databases(found)
            for database in found:
                registry.record(
                    now, "database.error", cause, app_id=app.id, database_id=database.id, detail=database.error or ""
                )


def damaged(registry: Registry, app: App, only: Collection[str] | None = None) -> list[Database]:
    """The databases that are called connected and are not usable, with what is wrong as their error; of all, or of those
    with `only` these ids."""
    found = []
    instances: dict[tuple[str, bool], Instance] = {}
    named = (registry.database(database_id) for database_id in only or ())
    looked_at = registry.databases(app.id) if only is None else [item for item in named if item is not None]
    for database in looked_at:
        if database.status is Status.CONNECTED and database.intent is None:
            where = (database.instance_id, database.moved)
            if where not in instances:
                instances[where] = registry.storage_of(database)
            instance = instances[where]
            if problem := engine_of(instance).problem(instance, database):
                found.append(replace(database, status=Status.ERROR, error=problem))
    return found


def look(registry: Registry, app: App, now: int, *, retry: Retry = False) -> Plan:
    """The plan for an app as it is now; changes nothing."""
    actual = Actual(
        tuple(registry.timelines(app.id)), tuple(registry.databases(app.id)), tuple(shares(registry, app.id))
    )
    return plan(_desired(registry, app, actual, now), actual, now, retry=retry)


def _desired(registry: Registry, app: App, actual: Actual, now: int) -> Desired:
    moving = {
        database.timeline_id: database.live
        for database in sorted(actual.databases, key=lambda database: database.live)
        if database.hold is None and (database.live or (database.archived_at or 0) > now - RENAME_MS)
    }
    moving |= {share.timeline_id: True for share in actual.shares}
    gone = {item.instance.id: item.purge_at for item in deleted(registry)}
    if gone:
        there = {timeline.id for timeline in actual.timelines if timeline.gone_at is None}
        lost = {item.timeline_id for item in actual.databases if item.instance_id in gone and item.hold is None}
        moving |= dict.fromkeys(lost & there, True)
    watched = {
        timeline.branch: moving[timeline.id]
        for timeline in actual.timelines
        if timeline.id in moving and not timeline.preview
    }
    expected = {branch for branch, live in watched.items() if live}
    desired = Desired(app, _stable_branches(app, expected), tuple(registry.assigned(app.id)), deleted=gone)
    if not has_reflogs(app.git_dir):
        return desired
    seen = {mark for timeline in actual.timelines for mark in timeline.rename_mark.split()}
    branches, logs = _stable_logs(app, desired.branches, expected, seen)
    known = {timeline.branch: timeline.rename_mark for timeline in actual.timelines if not timeline.preview}
    origins = carried(logs, seen, watched.keys() - {app.production}, app.production)
    renames = tuple(Rename(old, new, _marks(known.get(new, ""), logs[new])) for new, old in origins.items())
    # what is not yet followed must not be taken for seen, which the copy of a log could bring about
    waiting = {move.mark for new in origins for move in unseen(new, logs[new], seen)}
    marks = {branch: _marks(known.get(branch, ""), log, waiting) for branch, log in logs.items()}
    return replace(desired, branches=branches, renames=renames, marks=marks)


def _stable_logs(
    app: App, branches: dict[bytes, str], expected: set[bytes], seen: set[str]
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


def _stable_branches(app: App, expected: set[bytes]) -> dict[bytes, str]:
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


def describe(action: Action) -> dict[str, str | None]:
    """An action for people and programs: what, on which timeline and database, why, and what failed last."""
    timeline = getattr(action, "timeline", None) or getattr(action, "old", None)
    database = getattr(action, "database", None)
    cause = getattr(action, "cause", None) or getattr(action, "reason", None)
    if isinstance(action, Follow):
        cause = f"its branch was renamed to {os.fsdecode(action.new)}"
    if timeline is None:
        branch = os.fsdecode(action.branch)  # type: ignore[union-attr]
        name = "production" if action.production else f"git-branch/{branch}"  # type: ignore[union-attr]
    else:
        name = os.fsdecode(timeline.name)
    return {
        "action": type(action).__name__.lower(),
        "timeline": name,
        "database": database.name if database else None,
        "cause": cause,
        "error": database.error if database else None,
    }
