"""Carrying out a plan: record the intent, do the work so that doing it again is safe, record the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TypeVar

from provisioner.core.errors import summary
from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import App, Database, Instance, Intent, Scrub, Status, StepFailure, Timeline
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Failures, Source
from provisioner.reconcile.apply.fork_sources import origins
from provisioner.reconcile.apply.isolation import each_alone
from provisioner.reconcile.apply.lost_data import explained
from provisioner.reconcile.apply.new_rows import begun, new_ids
from provisioner.reconcile.apply.ownership import record_new, refusals
from provisioner.reconcile.apply.renewals import renew
from provisioner.reconcile.apply.step_result import Progress, Step, result_of
from provisioner.reconcile.apply.timeline_rows import Event, note, opened, orphan, record
from provisioner.reconcile.plan import actions as planned
from provisioner.registry.moves import set_moved
from provisioner.registry.shares import end_shares, end_shares_of
from provisioner.registry.snapshots import end_snapshots
from provisioner.registry.store import Registry
from provisioner.registry.tokens import mark_told
from provisioner.system import failpoints

BATCH = 1000  # databases that share a transaction and a sync
FIRST_BATCH, QUICK_SECONDS = 64, 0.2  # where others may wait: a server takes long over each, and a disk over none

_T = TypeVar("_T")

_New = tuple[Database, Timeline, str]


class Applier:
    """Carries out actions on one app, except for renames. The caller holds the app's lock."""

    def __init__(
        self,
        registry: Registry,
        app: App,
        now: int,
        cause: str,
        progress: Progress | None = None,
        give_way: Callable[[], bool] | None = None,
    ) -> None:
        self.registry, self.app, self.now, self.cause = registry, app, now, cause
        self.progress = progress
        self.failed = False
        self.left = 0
        self._give_way = give_way
        self._instances: dict[tuple[str, bool], Instance] = {}
        self._scrubs: dict[InstanceId, Scrub] | None = None

    def apply(self, actions: Sequence[planned.Action]) -> None:
        """Carry them out in this order. If it has to give way, how many are `left` says that."""
        self.left = len(actions)
        size = BATCH if self._give_way is None else FIRST_BATCH
        for kind, group in groupby(actions, type):
            waiting = list(group)
            while waiting:
                if self._give_way is not None and self._give_way():
                    return
                began = time.monotonic()
                batch, waiting = waiting[:size], waiting[size:]
                self._apply_batch(kind, batch)
                self.left -= len(batch)
                if time.monotonic() - began < QUICK_SECONDS:
                    size = min(2 * size, BATCH)

    def _apply_batch(self, kind: type[planned.Action], batch: list[planned.Action]) -> None:
        if kind is planned.OpenTimeline:
            self._open([action for action in batch if isinstance(action, planned.OpenTimeline)])
        elif kind is planned.UpdateTimeline:
            notes = [action for action in batch if isinstance(action, planned.UpdateTimeline)]
            note(self.registry, self.app, notes, self.now, self.cause)
        elif kind is planned.Orphan:
            orphans = [action for action in batch if isinstance(action, planned.Orphan)]
            orphan(self.registry, self.app, orphans, self.now, self.cause)
        elif kind is planned.Create:
            self._create([action for action in batch if isinstance(action, planned.Create)])
        elif kind is planned.Ensure:
            self._step(batch, Intent.PROVISION, "ensure")
        elif kind is planned.Archive:
            self._step(batch, Intent.ARCHIVE, "archive")
        elif kind is planned.Purge:
            self._step(batch, Intent.PURGE, "purge")
        elif kind is planned.Fail:
            self._fail([action for action in batch if isinstance(action, planned.Fail)])
        elif kind is planned.Unshare:
            self._unshare([action for action in batch if isinstance(action, planned.Unshare)])
        elif kind is planned.Renew:
            self._renew([action for action in batch if isinstance(action, planned.Renew)])
        else:
            self._release([action for action in batch if isinstance(action, planned.ClearHold)])

    def _open(self, actions: list[planned.OpenTimeline]) -> None:
        """New timelines with their databases; the databases are made in the same go."""
        ids = new_ids(len(actions))
        timelines = [opened(self.app, action, new_id, self.now) for new_id, action in zip(ids, actions, strict=True)]
        instances = self.registry.assigned(self.app.id)
        with self.registry.change(synced=False):  # if lost in a power cut, nothing was acknowledged: it is opened again
            self.registry.save_timelines(timelines)
            self._record([(timeline.name, None, "timeline.open", "", self.cause) for timeline in timelines])
            clear = [timeline for timeline in timelines if not timeline.doubt]
            made = self._insert([(timeline, instance) for timeline in clear for instance in instances])
        self._make(made)

    # databases

    def _create(self, actions: list[planned.Create]) -> None:
        with self.registry.change():
            made = self._insert([(action.timeline, action.instance) for action in actions])
        self._make(made)

    def _insert(self, wanted: list[tuple[Timeline, Instance]]) -> list[_New]:
        made = []
        first = self.registry.first_assigned(self.app.id)
        for new_id, (timeline, instance) in zip(new_ids(len(wanted)), wanted, strict=True):
            made.append((begun(new_id, self.app, timeline, instance, first, self.now), timeline, self.cause))
        made = self._with_origins(made)
        self.registry.save_databases(database for database, _, _ in made)
        return made

    def _with_origins(self, made: list[_New]) -> list[_New]:
        """The same, with what those that are to be forks are to be forks of."""
        sources: dict[DatabaseId, DatabaseId] = {}
        timelines = {database.id: timeline for database, timeline, _ in made}
        pairs = [(timeline, database) for database, timeline, _ in made]
        for database, source, words in origins(self.registry, self.app, pairs):
            if source is not None:
                sources[database.id] = source
            self._record([(timelines[database.id].name, database.id, "database.origin", words, self.cause)])
        return [
            (self._aside(replace(database, forked_from=sources.get(database.id))), timeline, cause)
            for database, timeline, cause in made
        ]

    def _aside(self, database: Database) -> Database:
        """The same; one that is to be a scrubbed copy is not created here, because that takes long."""
        if database.forked_from is None or database.forked_at is not None or database.connected_at is not None:
            return database
        if self._scrubs is None:
            self._scrubs = self.registry.scrubs(self.app.id)
        if database.instance_id not in self._scrubs:
            return database
        return database.with_intent(Intent.SCRUB)

    def _make(self, made: list[_New]) -> None:
        made = [item for item in made if not item[0].copied_aside]
        while made:
            waiting = {database.id for database, _, _ in made}
            first = [item for item in made if item[0].forked_from not in waiting] or made  # before forks of theirs
            for batch in _batches(first):
                self._carry_out([planned.Ensure(*item) for item in batch], "ensure")
            done = {database.id for database, _, _ in first}
            made = [item for item in made if item[0].id not in done]

    def _step(self, batch: Sequence[planned.Action], intent: Intent, verb: str) -> None:
        steps = [action for action in batch if isinstance(action, Step)]
        begun: list[Step] = []
        for step in steps:
            recovering = intent is Intent.PROVISION and step.database.status is Status.ARCHIVED
            mine = Intent.RECOVER if recovering else intent
            database = step.database.with_intent(mine)
            begun.append(replace(step, database=self._aside(database) if verb == "ensure" else database))
        self.registry.save_databases(step.database for step in begun)
        begun = [self._with_generation(step) if step.database.intent is Intent.RECOVER else step for step in begun]
        self._carry_out([step for step in begun if not step.database.copied_aside], verb)

    def _with_generation(self, step: Step) -> Step:
        """What comes back from the archive has another generation since its intent was recorded."""
        now = self.registry.database(step.database.id)
        assert now is not None  # noqa: S101 - rows of databases are never deleted
        return replace(
            step, database=replace(step.database, token_generation=now.token_generation, renewals=now.renewals)
        )

    def _carry_out(self, steps: Sequence[Step], verb: str) -> None:
        kind = steps[0].database.intent if steps else None
        failpoints.point(f"{kind}.intended" if kind else "")
        if self.progress:
            self.progress(verb, 0)
        failures: Failures = {}
        failures |= refusals(self.registry, self.app, verb, self._by_storage(steps))
        if verb == "ensure":
            steps = [step if step.database.id in failures else self._forked(step, failures) for step in steps]
        for instance, group in self._by_storage(steps):
            engine = engine_of(instance)
            work = {"ensure": engine.ensure, "archive": engine.archive, "purge": engine.purge}[verb]
            todo = [step.database for step in group if step.database.id not in failures]
            failed = each_alone(partial(work, instance), todo)
            failures |= failed if verb == "purge" else explained(self.registry, instance, failed, todo)
        self.failed = self.failed or bool(failures)
        results = [result_of(step, failures.get(step.database.id), self.now) for step in steps]
        with self.registry.change():
            self.registry.save_databases(database for database, _ in results)
            if verb == "ensure":
                mark_told(self.registry, [step.database for step in steps if step.database.id not in failures])
            if verb == "purge":
                purged = [database.id for database, _ in results if database.status is Status.PURGED]
                end_snapshots(self.registry, purged, self.now)
                end_shares_of(self.registry, purged)
            self._record(
                [
                    (step.timeline.name, step.database.id, f"database.{action}", database.error or "", step.cause)
                    for step, (database, action) in zip(steps, results, strict=True)
                ]
            )
        failpoints.point(f"{kind}.recorded" if kind else "")
        if verb == "ensure":
            for instance, group in self._by_storage(steps):
                made = [step.database for step in group if step.database.id not in failures]
                new = [item for item in made if item.connected_at is None]
                each_alone(partial(record_new, self.registry, instance), new)  # what fails is still due
        if self.progress:
            self.progress(verb, len(steps))

    def _by_storage(self, steps: Sequence[Step]) -> list[tuple[Instance, list[Step]]]:
        found = groupby(steps, lambda step: (step.database.instance_id, step.database.moved))
        return [(self._storage(instance_id, moved=moved), list(group)) for (instance_id, moved), group in found]

    def _forked(self, step: Step, failures: Failures) -> Step:
        """The step, with the data of what its database is to be a fork of, if it is to be one and has none yet."""
        database = step.database
        if database.forked_from is None or database.forked_at is not None or database.connected_at is not None:
            return step
        source = self.registry.database(database.forked_from)
        assert source is not None  # noqa: S101 - rows of databases are never deleted
        if database.moved != source.moved:  # nothing was made of it yet: it is made where its source is
            database = replace(database, moved=source.moved)
            set_moved(self.registry, database, moved=source.moved)
        instance = self._storage(database.instance_id, moved=database.moved)
        try:
            made = engine_of(instance).fork(instance, database, Source(source, database.forked_snapshot))
        except Exception as error:  # whatever it is, it is this one's failure
            failures[database.id] = summary(error)
            return replace(step, database=database)
        return replace(step, database=replace(database, forked_at=self.now, fork_version=made.version))

    def _fail(self, actions: list[planned.Fail]) -> None:
        with self.registry.change():
            self.registry.save_databases(
                action.database.failed(StepFailure(action.reason, action.database.attempts)) for action in actions
            )
            self._record(
                [
                    (action.timeline.name, action.database.id, "database.error", action.reason, self.cause)
                    for action in actions
                ]
            )

    def _release(self, actions: list[planned.ClearHold]) -> None:
        self.registry.save_databases(action.database.with_hold(None) for action in actions)

    def _unshare(self, actions: list[planned.Unshare]) -> None:
        with self.registry.change():
            end_shares(self.registry, [action.share for action in actions])
            self._record(
                [
                    (action.timeline.name, action.share.database_id, "database.unshare", "", action.cause)
                    for action in actions
                ]
            )

    def _renew(self, actions: list[planned.Renew]) -> None:
        for action in actions:
            if problem := renew(self.registry, action.database.id, self.now):
                self.failed = True
                self._record([(action.timeline.name, action.database.id, "database.error", problem, self.cause)])

    def _storage(self, instance_id: InstanceId, *, moved: bool) -> Instance:
        """The instance at the location of its `moved` databases, or of the others: none of this app's is being moved now."""
        where = (instance_id, moved)
        if where not in self._instances:
            self._instances[where] = self.registry.instance_of(instance_id).storage(moved=moved)
        return self._instances[where]

    def _record(self, events: Sequence[Event]) -> None:
        record(self.registry, self.app, events, self.now)


def _batches(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
