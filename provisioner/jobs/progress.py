"""The step that a timeline waits for before programs can connect to it, for a pusher or `exec` that waits too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import AppId
from provisioner.core.model import App, Database, Intent, Run, RunState, Status, Timeline
from provisioner.core.naming import shown
from provisioner.jobs.pre_deploy import is_due
from provisioner.reconcile.changes.run_records import PRE_DEPLOY, SCRUB
from provisioner.registry import queries
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry
from provisioner.system.home import Home

BEAT_SECONDS: Final = 10.0  # between two lines to a waiting process
PUSH_SECONDS: Final = 300.0  # that a push waits; unfinished steps continue without it


def pending_step(registry: Registry, app: App, timeline: Timeline) -> str:
    """The step in progress or the next one; empty if there is none, or if one failed."""
    current = queries.timeline_by_id(registry, timeline.id)
    if current is None or current.gone_at is not None or current.revision != timeline.revision:
        return ""
    live = [item for item in queries.databases_of(registry, current) if item.live]
    if any(item.status is Status.ERROR for item in live):
        return ""
    for database in live:
        if database.intent in (Intent.PROVISION, Intent.SCRUB):
            return _making(registry, current, database)
    if not live or not is_due(app, current):
        return ""
    words = app.pre_deploy or app.pre_deploy_from
    begun = latest_run(registry, current, PRE_DEPLOY)
    if begun is not None and begun.revision == current.revision and begun.state is RunState.RUNNING:
        return f"pre-deploy: {words}"
    return f"waiting for its turn to run the pre-deploy command: {words}"


def latest_run(registry: Registry, timeline: Timeline, kind: str) -> Run | None:
    return next((run for run in runs(registry, timeline.id) if run.kind == kind), None)


def pushed_and_pending(registry: Registry, app: App, branches: Sequence[bytes]) -> list[Timeline]:
    """The timelines of these branches that wait for a step."""
    return [
        item
        for item in queries.of_branches(registry, app.id, branches)
        if not item.preview and pending_step(registry, app, item)
    ]


def tell_steps(
    home: Home, app_id: AppId, branches: Sequence[bytes], say: Callable[[str], None], over: threading.Event
) -> bool:
    """Report at intervals what the pushed branches wait for, until it is `over`. False if that took PUSH_SECONDS."""
    for _ in range(int(PUSH_SECONDS / BEAT_SECONDS)):
        if over.wait(BEAT_SECONDS):
            return True
        for line in _steps(home, app_id, branches):
            say(line)
    return False


def _steps(home: Home, app_id: AppId, branches: Sequence[bytes]) -> list[str]:
    try:
        with Registry.open(home) as registry:
            app = registry.app(app_id)
            timelines = pushed_and_pending(registry, app, branches) if app is not None else []
            said = [(item.name, pending_step(registry, app, item)) for item in timelines] if app is not None else []
    except ProvisionerError as error:
        return [shown(f"provisioner: {error}")]
    if not said:
        return ["provisioner: waiting until the branches have been read"]
    return [shown(f"provisioner: {os.fsdecode(name)}: {step}") for name, step in said[:10]]


def _making(registry: Registry, timeline: Timeline, database: Database) -> str:
    source = registry.database(database.forked_from) if database.forked_from else None
    owner = queries.timeline_by_id(registry, source.timeline_id) if source is not None else None
    if owner is None:
        return "creating its database"
    copying = f"copying the data of {os.fsdecode(owner.name)}"
    if database.intent is not Intent.SCRUB:
        return copying
    begun = latest_run(registry, timeline, SCRUB)
    if begun is not None and begun.state is RunState.RUNNING:
        return f"{copying} and scrubbing the copy: {begun.command}"
    return f"{copying} to be scrubbed"
