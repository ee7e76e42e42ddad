"""Runs of users' commands in the registry: what is said of one before, during and after it, and where it works."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import RunId
from provisioner.core.model import App, Database, Run, RunState, Timeline
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.reconcile.apply.isolation import problem_of
from provisioner.reconcile.apply.locks import database_if_free, hooks_if_free, timeline_if_free
from provisioner.registry import runs
from provisioner.registry.events import HOOKS
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.log_times import times_path
from provisioner.runs.process import end_survivors, log_path

PRE_DEPLOY, SCRUB = "pre-deploy", "scrub"
REMEMBERED = 20  # runs of a timeline, with their logs


@contextmanager
def begun(
    registry: Registry, timeline: Timeline, kind: str, command: str, *, database: Database | None = None
) -> Iterator[Run]:
    """A run that is recorded as running; the block ends it with `end`. If it does not, the run was interrupted."""
    run = Run(
        id=RunId(str(uuid.uuid4())),
        timeline_id=timeline.id,
        database_id=database.id if database else None,
        kind=kind,
        revision=timeline.revision,
        command=command,
        state=RunState.RUNNING,
        detail="",
        started_at=now_ms(),
        ended_at=None,
    )
    runs.save_run(registry, run)
    why = "it was stopped"
    try:
        yield run
    except ProvisionerError as error:
        why = str(error)
        raise
    finally:
        workplace.remove(registry.home, run.id)
        if any(each.id == run.id and each.state is RunState.RUNNING for each in runs.runs(registry, timeline.id)):
            end(registry, run, RunState.CUT_OFF, why)


def end(registry: Registry, run: Run, state: RunState, detail: str) -> None:
    with registry.change():
        runs.save_run(registry, replace(run, state=state, detail=detail, ended_at=now_ms()))
        old = [each for each in runs.runs(registry, run.timeline_id)[REMEMBERED:] if each.state is not RunState.RUNNING]
        for each in old:
            runs.forget_run(registry, each)
    for each in old:
        for path in (log_path(registry.home, each.id), times_path(log_path(registry.home, each.id))):
            _remove_file(path)


def settle_runs(registry: Registry, app: App, now: int) -> list[str]:
    """Find the runs whose process has ended, and end their remaining processes. Returns the failures. Their work starts
    again."""
    problems = []
    for run in runs.unfinished_runs(registry, app.id):
        if run.kind in HOOKS:
            lock = hooks_if_free(registry, run.timeline_id)
        elif run.database_id is None:
            lock = timeline_if_free(registry, run.timeline_id)
        else:
            lock = database_if_free(registry, run.database_id)
        with lock as free:
            if free and (why := problem_of(partial(cut_off, registry, run, now))):
                name = shown(registry.timeline(run.timeline_id).name)
                problems.append(f"the {run.kind} command of timeline {name}, which was cut off: {why}")
    return problems


def cut_off(registry: Registry, run: Run, now: int) -> None:
    """No process works on a run that is recorded as running. The caller holds the lock under which it ran."""
    end_survivors(run.id)
    workplace.remove(registry.home, run.id)
    database = registry.database(run.database_id) if run.database_id else None
    if database is not None:  # what it was to change goes too
        instance = registry.storage_of(database)
        engine_of(instance).discard(instance, database)
    timeline = registry.timeline(run.timeline_id)
    with registry.change():
        end(registry, run, RunState.CUT_OFF, "it was interrupted: its process was killed")
        registry.audit(now, f"timeline.{run.kind}-cut-off", timeline, run.database_id, run.command, cause="found")


def _remove_file(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
