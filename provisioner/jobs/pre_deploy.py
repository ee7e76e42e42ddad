"""The pre-deploy command: once for each new revision of each timeline, before programs connect to it.

It holds the timeline's lock, which no other app or timeline waits for, and the app's lock only for moments. If it is
interrupted, it runs again, so it should be idempotent.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from provisioner.core.clock import now_ms
from provisioner.core.connection import variables
from provisioner.core.errors import LockTimeout, ProvisionerError
from provisioner.core.ids import AppId, DatabaseId, TimelineId
from provisioner.core.model import App, Run, RunState, Status, Timeline, deploy_status
from provisioner.core.naming import PRODUCTION
from provisioner.core.redaction import Secret
from provisioner.engines.endpoints import all_reached
from provisioner.git.checkout_tree import CheckoutLimits, CheckoutStopped, check_out
from provisioner.jobs.copies_before import copy_before, identity
from provisioner.reconcile.apply.locks import app_locked, timeline_locked
from provisioner.reconcile.changes.command_access import confined
from provisioner.reconcile.changes.run_records import PRE_DEPLOY, begun, cut_off, end
from provisioner.registry import queries, runs
from provisioner.registry import snapshots as kept
from provisioner.registry.exec_lookup import Resolver
from provisioner.registry.redaction import mask, secrets_of
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.process import KEEP_FREE, STOPPED, Command, Stop, failed, run, shell
from provisioner.system import failpoints

PATIENCE_SECONDS = 60.0  # beyond the time limit, for another process that runs it


def due(registry: Registry, app: App) -> list[Timeline]:
    """The timelines whose databases are connected and for whose revision the command has not run."""
    if not app.deploys:
        return []
    moved_on = registry.timelines_where(
        "app_id = ? and gone_at is null and deployed <> revision order by not production, rowid", app.id
    )
    return [item for item in moved_on if is_due(app, item) and _is_connected(registry, item)]


def _is_connected(registry: Registry, timeline: Timeline) -> bool:
    live = [item for item in queries.databases_of(registry, timeline) if item.live]
    return bool(live) and all(item.settled for item in live)


def deploy(registry: Registry, app_id: AppId, timeline_id: TimelineId, stop: Stop, *, wait: bool) -> bool:
    """Run the command on a timeline, if it is due; the outcome is in the registry.

    If another process is running it, `wait` for its end; else return False. Raises ProvisionerError if it could not even be
    started; then it is still due.
    """
    app = registry.app(app_id)
    if app is None:
        return True
    patience = app.pre_deploy_ms / 1000 + PATIENCE_SECONDS if wait else 0.0
    try:
        with timeline_locked(registry, timeline_id, patience):
            _deploy(registry, app_id, timeline_id, stop)
    except LockTimeout:
        if wait:
            raise
        return False
    return True


def _deploy(registry: Registry, app_id: AppId, timeline_id: TimelineId, stop: Stop) -> None:
    app = registry.app(app_id)
    timeline = registry.timeline(timeline_id)
    if app is None or not is_due(app, timeline) or not _is_connected(registry, timeline):
        return
    for left in runs.runs(registry, timeline.id):
        if left.state is RunState.RUNNING and left.kind == PRE_DEPLOY:
            cut_off(registry, left, now_ms())
    with begun(registry, timeline, PRE_DEPLOY, app.pre_deploy or app.pre_deploy_from) as begun_run:
        failpoints.point("deploy.intended")
        before = kept.replaced_counts(registry, timeline.id)
        command = identity(app, timeline.revision)
        copy_before(registry, app, timeline, command)
        failpoints.point("deploy.snapshot")
        try:
            why = _run(registry, app, timeline, begun_run, stop)
        except LockTimeout:
            raise
        except ProvisionerError as error:
            why = str(error)
        failpoints.point("deploy.ran")
        if why == STOPPED:
            return
        if why:
            what = f"the pre-deploy command at {timeline.revision[:12]}"
            why = mask(registry, app).text(failed(registry.home, begun_run.id, what, why))
        _record(registry, app, begun_run, command, why, before)
    failpoints.point("deploy.recorded")


def _run(registry: Registry, app: App, timeline: Timeline, begun_run: Run, stop: Stop) -> str:
    home = registry.home
    resolver = Resolver(home)
    found = resolver.app(slug=app.slug)
    assert found is not None  # noqa: S101
    connection = resolver.connection(
        found, timeline=PRODUCTION if timeline.production else timeline.name, deploying=True
    )
    place = workplace.make(home, begun_run.id, app.run_as)
    limits = CheckoutLimits(app.checkout_files, app.checkout_bytes, app.pre_deploy_ms / 1000, KEEP_FREE)
    try:
        check_out(app.git_dir, timeline.revision, place.checkout, limits, stop)
    except CheckoutStopped:
        return STOPPED
    failpoints.point("deploy.checked-out")
    words = shell(app.pre_deploy) if app.pre_deploy else _words(place.checkout, app.pre_deploy_from)
    if words is None:
        return ""  # a revision without this file
    if app.run_as:
        workplace.give(place, app.run_as)
    ways = all_reached(home, connection)
    credentials = [Secret(each) for way in ways for each in way.credentials()]
    command = Command(
        words,
        place.checkout,
        app.pre_deploy_ms,
        {**variables(connection, ways), "DENO_DEPLOY_BUILD_ID": timeline.revision},
        (*secrets_of(registry, app), *credentials),
        confined(registry, app, place, ways, words),
    )
    return run(home, begun_run.id, command, stop)


def _words(directory: str, name: str) -> list[str] | None:
    """How to run a file of the revision: directly if it is executable, else as a shell script."""
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
        return None
    return [path] if os.stat(path).st_mode & stat.S_IXUSR else ["/bin/sh", path]


def _record(
    registry: Registry, app: App, begun_run: Run, command: str, why: str, before: dict[DatabaseId, int]
) -> None:
    """The outcome counts for the data that it ran on: if that was replaced in the meantime, it runs again."""
    with app_locked(registry, app), registry.change():
        if kept.replaced_counts(registry, begun_run.timeline_id) != before:
            end(registry, begun_run, RunState.CUT_OFF, "the data was replaced while it ran; it runs again")
            return
        end(registry, begun_run, RunState.FAILED if why else RunState.SUCCEEDED, why)
        current = registry.timeline(begun_run.timeline_id)
        by = current.deployed_by if why else command
        deployed = replace(current, deployed=begun_run.revision, failure=why or None, deployed_by=by)
        registry.save_timelines([deployed])
        action = "timeline.deploy-failed" if why else "timeline.deploy"
        registry.audit(now_ms(), action, current, detail=why or begun_run.revision, cause="pre-deploy")


def forget_failures(registry: Registry, app: App, timelines: list[Timeline], cause: str) -> int:
    """Let the command run again where it failed. Returns on how many timelines."""
    ids = {item.id for item in timelines}
    with app_locked(registry, app), registry.change():
        again = [
            replace(item, deployed="", failure=None)
            for item in registry.timelines_where("app_id = ? and failure is not null", app.id)
            if item.id in ids and deploy_status(app, item) is Status.ERROR
        ]
        registry.save_timelines(again)
        for item in again:
            registry.audit(now_ms(), "timeline.fix", item, cause=cause)
    return len(again)


def is_due(app: App, timeline: Timeline) -> bool:
    """Whether the command must run at the timeline's revision, once its databases are connected."""
    return timeline.gone_at is None and bool(timeline.revision) and deploy_status(app, timeline) is Status.PROVISIONING
