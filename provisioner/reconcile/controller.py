"""One app at a time: read what is, plan, apply, until there is nothing left to do. Everything that wakes ends here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from provisioner.engines.table import ENGINES
from provisioner.errors import UnreadableRepository
from provisioner.git.reflog import has_reflogs, trail
from provisioner.git.refs import read_branches, still_there
from provisioner.lock import locked
from provisioner.model import App, Database, Instance, Status, Timeline
from provisioner.reconcile.actions import Action, Actual, Desired, Note, Open, Plan, Rename
from provisioner.reconcile.apply import Applier, Progress
from provisioner.reconcile.plan import plan
from provisioner.registry.store import Registry

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
    retry: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Bring the app's databases to what its refs say.

    `cause` goes into the audit log. `retry` tries at once again what has failed. Raises `UnreadableRepository` (then
    nothing was changed), `Busy` and `StorageFailed`. Failures of single databases are in their status, not raised.
    """
    done = 0
    with locked(os.path.join(registry.home.locks, f"app-{app.id}.lock"), f"the app {app.slug!r}"):
        if retry:
            _find_damage(registry, app, now, cause)
        for _ in range(MOST_PASSES):
            current = registry.app(app.id)
            if current is None:
                return Outcome(done, None)
            step = look(registry, current, now, retry=retry and done == 0)
            if not step.actions:
                return Outcome(done, step.next_at)
            applier = Applier(registry, current, now, cause, progress)
            applier.apply(step.actions)
            done += len(step.actions)
            if not applier.failed and all(isinstance(action, Open | Note) for action in step.actions):
                return Outcome(done, step.next_at)  # what they lead to is done; a push need not wait for another look
    return Outcome(done, now)


def preview(registry: Registry, app: App, now: int) -> Plan:
    """What `reconcile` with `retry` would begin with; changes nothing."""
    found = {database.id: database for database in _damaged(registry, app)}
    databases = tuple(found.get(database.id, database) for database in registry.databases(app.id))
    actual = Actual(tuple(registry.timelines(app.id)), databases)
    return plan(_desired(registry, app, actual, now), actual, now, retry=True)


def _find_damage(registry: Registry, app: App, now: int, cause: str) -> None:
    """Call connected databases that are lost or damaged what they are, so that they are tried and reported."""
    damaged = _damaged(registry, app)
    if damaged:
        with registry.change():
            registry.save_databases(damaged)
            for database in damaged:
                registry.record(
                    now, "database.error", cause, app_id=app.id, database_id=database.id, detail=database.error or ""
                )


def _damaged(registry: Registry, app: App) -> list[Database]:
    """The databases that are called connected and are not usable, with what is wrong as their error."""
    damaged = []
    instances: dict[str, Instance] = {}
    for database in registry.databases(app.id):
        if database.status is Status.CONNECTED and database.intent is None:
            if database.instance_id not in instances:
                instances[database.instance_id] = registry.instance_of(database.instance_id)
            instance = instances[database.instance_id]
            if problem := ENGINES[instance.engine].problem(instance, database):
                damaged.append(replace(database, status=Status.ERROR, error=problem))
    return damaged


def look(registry: Registry, app: App, now: int, *, retry: bool = False) -> Plan:
    """The plan for an app as it is now; changes nothing."""
    actual = Actual(tuple(registry.timelines(app.id)), tuple(registry.databases(app.id)))
    return plan(_desired(registry, app, actual, now), actual, now, retry=retry)


def _desired(registry: Registry, app: App, actual: Actual, now: int) -> Desired:
    moving = {
        database.timeline_id: database.live
        for database in sorted(actual.databases, key=lambda database: database.live)
        if database.hold is None and (database.live or (database.archived_at or 0) > now - RENAME_MS)
    }
    watched = {timeline.branch: moving[timeline.id] for timeline in actual.timelines if timeline.id in moving}
    branches = _stable_branches(app, {branch for branch, live in watched.items() if live})
    desired = Desired(app, branches, tuple(registry.assigned(app.id)))
    gone = watched.keys() - branches.keys() - {app.production}
    connected = {branch for branch, live in watched.items() if live}
    return _with_renames(desired, actual.timelines, gone, branches.keys() - connected)


def _stable_branches(app: App, expected: set[bytes]) -> dict[bytes, str]:
    """The branches, with what seems to be missing looked up again by name."""
    for _ in range(MOST_LOOKS):
        branches = read_branches(app.git_dir)
        if not still_there(app.git_dir, expected - branches.keys()):
            return branches
    raise UnreadableRepository(
        f"the refs of {os.fsdecode(app.git_dir)} do not hold still", "Run 'provisioner reconcile' when git is done"
    )


def _with_renames(desired: Desired, timelines: tuple[Timeline, ...], gone: set[bytes], new: set[bytes]) -> Desired:
    """Look into the reflogs where a branch is new or one has gone: only then can there have been a rename.

    A rename from a branch that is only now seen to be there was of an earlier branch of its name: it is marked as past,
    or it would carry off the data of the one that is there.
    """
    if not (gone or new) or not has_reflogs(desired.app.git_dir):
        return desired
    known = {timeline.branch: timeline for timeline in timelines if not timeline.production}
    marks = {}
    renames = []
    for branch in desired.branches:
        since = known[branch].rename_mark if branch in known else ""
        found = trail(desired.app.git_dir, branch, since)
        former = next((name for name in found.former if name in gone), None)
        if former is not None:
            renames.append(Rename(former, branch, found.mark))
        if branch in new or (former is None and not new.isdisjoint(found.former)):
            marks[branch] = found.mark
    return replace(desired, renames=tuple(renames), marks=marks)


def describe(action: Action) -> dict[str, str | None]:
    """An action for people and programs: what, on which timeline and database, why, and what failed last."""
    timeline = getattr(action, "timeline", None) or getattr(action, "old", None)
    database = getattr(action, "database", None)
    if timeline is None:
        branch = os.fsdecode(action.branch)  # type: ignore[union-attr]
        name = "production" if action.production else f"git-branch/{branch}"  # type: ignore[union-attr]
    else:
        name = os.fsdecode(timeline.name)
    return {
        "action": type(action).__name__.lower(),
        "timeline": name,
        "database": database.name if database else None,
        "cause": getattr(action, "cause", None) or getattr(action, "reason", None),
        "error": database.error if database else None,
    }
