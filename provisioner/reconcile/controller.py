"""One app at a time: read what is, plan, apply, until there is nothing left to do. Everything that wakes ends here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import App, Database, Instance, StepFailure
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.location import is_kept
from provisioner.git.anchors import begin_watch, complete_watch, to_complete
from provisioner.reconcile.apply.applier import Applier
from provisioner.reconcile.apply.apply_renames import follow
from provisioner.reconcile.apply.isolation import each_alone, problem_of
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.apply.ownership import settle_owners
from provisioner.reconcile.apply.renewals import settle_rotation
from provisioner.reconcile.apply.step_result import Progress
from provisioner.reconcile.branch_identity import anchored, known_lineages, remove_unused_anchors
from provisioner.reconcile.branch_observation import observe_branches
from provisioner.reconcile.changes.move_recovery import settle_moves
from provisioner.reconcile.changes.replace import settle
from provisioner.reconcile.changes.revision_snapshots import Moved, keep, moves
from provisioner.reconcile.changes.run_records import settle_runs
from provisioner.reconcile.gone_hooks import held_back
from provisioner.reconcile.observation import Observation, observe
from provisioner.reconcile.plan.actions import (
    Action,
    Archive,
    OpenTimeline,
    Orphan,
    Plan,
    RenameTimeline,
    UpdateTimeline,
)
from provisioner.reconcile.plan.branch_limit import new_branches, within_limit
from provisioner.reconcile.plan.planner import plan
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.reconcile.repository_identity import must_be_its_own
from provisioner.registry import queries
from provisioner.registry.home.observed_time import observe as observe_time
from provisioner.registry.home.observed_time import recoverable_until
from provisioner.registry.instances import deleted, emptied
from provisioner.registry.store import Registry
from provisioner.system import temp_dirs
from provisioner.system.looking import starting_nothing

MOST_PASSES = 8  # a rename over an existing branch takes three


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a reconcile, and when (ms) time alone will require the next one. `cut`: it yielded before everything was
    done. `whole`: it looked at the whole app, and `next_at` is about all of it; otherwise at a few branches. `problems`: steps
    of other processes that could not be finished, which does not stop the rest."""

    actions: int
    next_at: int | None
    cut: bool = False
    whole: bool = True
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Request:
    """How a reconcile is to be done: see `reconcile`. `kept` are moves whose data has been kept."""

    now: int
    cause: str
    branches: Collection[bytes] | None
    retry: Retry
    progress: Progress | None
    give_way: Callable[[], bool] | None
    kept: set[Moved] = field(default_factory=set)


def reconcile(
    registry: Registry,
    app: App,
    now: int,
    cause: str,
    *,
    branches: Collection[bytes] | None = None,
    retry: Retry = False,
    progress: Progress | None = None,
    give_way: Callable[[], bool] | None = None,
) -> Outcome:
    """Bring the app's databases to what its refs say.

    `cause` goes into the audit log. `branches`: only these may have changed, and they alone are looked at if that is enough.
    `retry` retries failed steps at once: everything, or the databases with these ids. If `give_way` is given, it is called
    between steps, and True ends this.

    Raises `UnreadableRepository` (then nothing was changed), `Busy` and `StorageFailed`. Failures of single databases are
    in their status, not raised.
    """
    request = _Request(now, cause, branches, retry, progress, give_way)
    while True:
        with app_locked(registry, app):
            outcome = _reconcile(registry, app, request)
        if isinstance(outcome, Outcome):
            if outcome.actions:
                observe_time(registry)  # the waiting times of what was archived begin
            return replace(outcome, problems=(*outcome.problems, *_retire(registry, now)))
        keep(registry, app, outcome, now)  # which copies, and so is done without the app's lock
        request.kept.update(outcome)


def _reconcile(registry: Registry, app: App, request: _Request) -> Outcome | list[Moved]:
    """The same under the app's lock; or whose data is to be kept first, of those that are not yet."""
    now = request.now
    must_be_its_own(registry, app)
    observe_time(registry)
    settle_rotation(registry, now)
    temp_dirs.clear(registry.home)
    problems = [*settle_moves(registry, app, now), *settle_runs(registry, app, now), *settle(registry, app, now)]
    if request.retry:
        _find_damage(registry, app, now, request.cause, request.retry)
    begin_watch(app.git_dir, app.id)
    outcome = _passes(registry, app, request)
    if not isinstance(outcome, Outcome):
        return outcome
    if outcome.whole and to_complete(app.git_dir, app.id) and anchored(registry, app):
        complete_watch(app.git_dir, app.id, known_lineages(registry, app))
    return replace(outcome, problems=tuple(problems))


def _passes(registry: Registry, app: App, request: _Request) -> Outcome | list[Moved]:
    """Plan and apply until nothing is left to do: what one plan has done, the next one builds on."""
    now, done, whole = request.now, 0, False
    for _ in range(MOST_PASSES):
        current = registry.app(app.id)
        if current is None:
            return Outcome(done, None)
        settle_owners(registry, current)
        step = None if whole else _look_at_branches(registry, current, request)
        if step is None:
            whole, step = True, look(registry, current, now, retry=False if done else request.retry)
        step = held_back(registry, current, step, now)
        if unkept := [each for each in moves(registry, current, step.actions) if each not in request.kept]:
            return unkept
        if not step.actions:
            return Outcome(done, step.next_at, whole=whole)
        before = known_lineages(registry, current) if any(map(_changes_lineages, step.actions)) else None
        if renamed := [action for action in step.actions if isinstance(action, RenameTimeline)]:
            follow(registry, current, renamed, now)
        applier = Applier(registry, current, now, request.cause, request.progress, request.give_way)
        applier.apply([action for action in step.actions if not isinstance(action, RenameTimeline)])
        if before is not None:
            remove_unused_anchors(registry, current, before)
        done += len(step.actions) - applier.left
        if applier.left:
            return Outcome(done, now, cut=True, whole=whole)
        if not applier.failed and all(map(_leads_to_nothing, step.actions)):
            return Outcome(done, step.next_at, whole=whole)  # a push does not wait for another look
    return Outcome(done, now, whole=whole)


def _look_at_branches(registry: Registry, app: App, request: _Request) -> Plan | None:
    """The plan for the branches that may have changed; None if the whole app must be looked at."""
    if request.branches is None or request.retry:
        return None
    seen = observe_branches(registry, app, request.now, request.branches)
    if seen is None:
        return None
    found = plan(seen.desired, seen.actual, request.now)
    new = len(new_branches(found.actions))
    return None if new and not queries.has_room(registry, app, new) else found


def _changes_lineages(action: Action) -> bool:
    new = isinstance(action, UpdateTimeline) and action.lineage != action.timeline.lineage
    return new or isinstance(action, Orphan | RenameTimeline)


def _leads_to_nothing(action: Action) -> bool:
    """Is all that it leads to done with it? A branch that is back has had its credentials revoked."""
    return isinstance(action, OpenTimeline) or (
        isinstance(action, UpdateTimeline) and (action.timeline.gone_at is None or action.gone_at is not None)
    )


def _retire(registry: Registry, now: int) -> list[str]:
    """Remove embedded servers of permanently deleted instances. Returns the failures."""
    empty = {instance.id for instance in emptied(registry)}
    problems = []
    for item in deleted(registry) if empty else ():
        over = item.instance.id in empty and recoverable_until(registry, item, now) <= now
        retire = partial(engine_of(item.instance).retire, item.instance)
        if over and is_kept(item.instance.location) and (why := problem_of(retire)):
            problems.append(f"instance {item.instance.slug}, which was deleted: {why}")
    return problems


def archive_all(registry: Registry, app: App, now: int, cause: str) -> None:
    """Archive and keep every live database of an app, whatever its refs say: its repository may be gone."""
    with app_locked(registry, app):
        live = queries.live_databases(registry, app)
        Applier(registry, app, now, cause).apply([Archive(*each, cause, None) for each in live])


def archive_instance(registry: Registry, app: App, instance: Instance, now: int, cause: str) -> None:
    """Archive every live database of an app on an instance that was deleted, whatever its refs say."""
    with app_locked(registry, app):
        settle(registry, app, now)
        live = queries.live_databases(registry, app, instance)
        Applier(registry, app, now, cause).apply(
            [Archive(item, timeline, cause, item.purge_at) for item, timeline in live]
        )


def preview(registry: Registry, app: App, now: int) -> Plan:
    """What `reconcile` with `retry` would do first; changes nothing."""
    with starting_nothing():
        found = {database.id: database for database in damaged(registry, app)}
    seen = observe(registry, app, now, {database.timeline_id for database in found.values()})
    databases = tuple(found.get(database.id, database) for database in seen.actual.databases)
    return _planned(registry, replace(seen, actual=replace(seen.actual, databases=databases)), now, True)


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


def damaged(registry: Registry, app: App, only: Collection[DatabaseId] | None = None) -> list[Database]:
    """The databases that are called connected and are not usable, with what is wrong as their error; of all, or of those
    with `only` these ids."""
    named = (registry.database(database_id) for database_id in only or ())
    looked_at = registry.databases(app.id) if only is None else [item for item in named if item is not None]
    places: dict[tuple[InstanceId, bool], list[Database]] = defaultdict(list)
    for database in looked_at:
        if database.settled:
            places[database.instance_id, database.moved].append(database)
    found = []
    for (instance_id, moved), databases in places.items():
        instance = registry.instance_of(instance_id).storage(moved=moved)
        problems = each_alone(partial(engine_of(instance).problems, instance), databases)
        found += [
            item.failed(StepFailure(problems[item.id], item.attempts, item.retry_at))
            for item in databases
            if item.id in problems
        ]
    return found


def look(registry: Registry, app: App, now: int, *, retry: Retry = False, by_the_clock: bool = False) -> Plan:
    """The plan for an app as it is now; changes nothing. `by_the_clock`: waiting times go by the wall clock alone."""
    return _planned(registry, observe(registry, app, now, by_the_clock=by_the_clock), now, retry)


def _planned(registry: Registry, seen: Observation, now: int, retry: Retry) -> Plan:
    found = plan(seen.desired, seen.actual, now, retry=retry)
    new = len(new_branches(found.actions))
    if new and not queries.has_room(registry, seen.desired.app, new):
        there = queries.branches_there(registry, seen.desired.app.id)
        found = replace(found, actions=within_limit(seen.desired.app, found.actions, there))
    times = [at for at in (found.next_at, seen.next_at) if at is not None]
    return replace(found, next_at=min(times, default=None))
