"""The processes of apps: started, given requests, watched, put to sleep, and restarted when they end unexpectedly."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext, suppress
from dataclasses import replace

from provisioner.core.errors import ProvisionerError, StorageFailed, summary
from provisioner.core.hosting import AppState, Deployment, DeploymentState
from provisioner.core.ids import AppId
from provisioner.hosting.apps.app_routes import AppRoutes
from provisioner.hosting.apps.context import HostingContext, fresh
from provisioner.hosting.apps.draining import discard, drain
from provisioner.hosting.apps.messages import DeploymentTask, LookAtApp, StartEnded
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.apps.uses import AppUses, is_idle
from provisioner.hosting.apps.waiting import keep_waiting
from provisioner.hosting.deployments.cleaning import clean
from provisioner.hosting.deployments.due import wanted_of
from provisioner.hosting.deployments.hosted_timeline import app_log, reach
from provisioner.hosting.deployments.records import (
    StepFailed,
    advance,
    have_hooks_run,
    is_stopped,
    record_event,
    set_state,
    step,
)
from provisioner.hosting.deployments.sockets import connections
from provisioner.hosting.deployments.starting import STOP_SECONDS, RunningApp, digest, start
from provisioner.hosting.router.waking import AppFailed, AppRunning, AppsBusy
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.runs.output import last_lines
from provisioner.system import failpoints

TAIL_LINES = 20
RETRY_SECONDS = 5
ROOM_SECONDS = 1.0  # between two looks for room for an app
BUSY_SECONDS = 20.0  # that requests wait for it
COMPARE_SECONDS = 2.0  # between two looks whether the variables of running apps have changed


class Serving:
    """For the thread of the manager alone, but for what is said to be in a thread of a pool."""

    def __init__(self, context: HostingContext) -> None:
        self._context = context
        self._routes = AppRoutes(context)
        self._uses = AppUses(context)
        self._crowded_out: set[AppId] = set()
        self._retried = 0.0
        self._compared = 0.0

    def begin(self, registry: Registry, item: TimelineApp, deployment: Deployment, *, serves: bool) -> None:
        """Begin to start it, or try again later if as many processes run as may, or if it has only just ended."""
        if serves:
            item.wait_for(deployment.id)
        if deployment.id in item.tasks:
            return
        if item.pauses(deployment.id):
            if not serves:
                item.answer(deployment.id, AppsBusy(RETRY_SECONDS))
            return  # the tick starts it
        full = self._context.apps.processes() >= self._context.most and not self._make_room(registry)
        if full and not item.hosted.timeline.production:
            self._wait_for_room(registry, item, deployment, serves=serves)
            return
        item.crowded_since = None
        if deployment.state is not DeploymentState.READY:
            deployment = advance(registry, deployment, DeploymentState.STARTING)
        if serves and not item.running:
            set_state(registry, item.hosted, AppState.STARTING)
        task = DeploymentTask(item.hosted, deployment, serves)
        item.tasks[deployment.id] = task
        self._context.starts.submit(self._start_one, task)

    def _wait_for_room(self, registry: Registry, item: TimelineApp, deployment: Deployment, *, serves: bool) -> None:
        """As many processes run as may, and all are in use: the tick tries again, and requests wait for BUSY_SECONDS."""
        now = time.monotonic()
        if item.crowded_since is None:
            item.crowded_since = now
        ready = deployment.state is DeploymentState.READY
        if serves and now < item.crowded_since + BUSY_SECONDS:
            if not item.running:
                set_state(registry, item.hosted, AppState.STARTING)
        else:
            item.answer(deployment.id, AppsBusy(RETRY_SECONDS))
            item.crowded_since = None
            if serves and ready and not item.running:
                set_state(registry, item.hosted, AppState.SLEEPING)
        if serves:
            self._crowded_out.add(item.hosted.app.id)

    def started(self, registry: Registry, ended: StartEnded) -> None:
        task, running = ended.task, ended.running
        item = self._context.apps.known(task.hosted.timeline.id) or self._context.apps.of(task.hosted)
        item.tasks.pop(task.deployment.id, None)
        try:
            item = self._context.apps.of(fresh(registry, task.hosted))
            if task.stop.is_set() or is_stopped(registry, item.hosted):
                self._give_up(registry, item, task, running)
            elif running is None:
                self._did_not_start(registry, item, task.deployment, ended.failure)
            else:
                self._runs(registry, item, task, running)
        except BaseException as error:
            if running is not None:
                self._disown(registry, item, task, running)
            item.answer(task.deployment.id, AppFailed(summary(error)))
            raise
        finally:
            self._context.tell(LookAtApp(item.hosted.app.id))

    def _give_up(self, registry: Registry, item: TimelineApp, task: DeploymentTask, running: RunningApp | None) -> None:
        if task.deployment.state is not DeploymentState.READY:
            self._context.ends.submit(discard, self._context, task.deployment, running)
            advance(registry, task.deployment, DeploymentState.CUT_OFF, "a newer revision came, or it was stopped")
        elif running is not None:
            self._context.ends.submit(running.service.stop, STOP_SECONDS)
        keep_waiting(registry, item, task.deployment.id)

    def _did_not_start(self, registry: Registry, item: TimelineApp, deployment: Deployment, failure: str) -> None:
        ready = deployment.state is DeploymentState.READY
        if ready:  # one that was never healthy is not restarted automatically, and the next one does not wait
            item.ended(deployment.id)
        else:
            self._context.ends.submit(discard, self._context, deployment)
        state = DeploymentState.READY if ready else DeploymentState.FAILED
        with registry.change():  # both changes are visible together
            self.fail(registry, item, advance(registry, deployment, state, f"start failed: {failure}"))

    def _runs(self, registry: Registry, item: TimelineApp, task: DeploymentTask, running: RunningApp) -> None:
        item.running[task.deployment.id] = running
        item.started = item.last_used[task.deployment.id] = time.monotonic()
        if task.serves:
            item.restart_at = None
        with registry.change():
            deployment = advance(registry, replace(task.deployment, port=running.port), DeploymentState.READY)
            if task.serves:
                self._record(registry, item, deployment)
        if task.serves:
            self._switch(registry, item, deployment, running)
        else:
            self._routes.route_revision(item.hosted, running)
        have_hooks_run(registry, item.hosted)
        failpoints.point("hosting.recorded")
        item.answer(deployment.id, AppRunning(running.port))

    def _disown(self, registry: Registry, item: TimelineApp, task: DeploymentTask, running: RunningApp) -> None:
        """End a process that is not, or not completely, recorded. The next look, or the tick after a pause, starts it again."""
        item.running.pop(task.deployment.id, None)
        self._routes.unroute(running)
        self._context.ends.submit(running.service.stop, STOP_SECONDS)
        item.ended(task.deployment.id)
        if task.serves:
            with suppress(ProvisionerError):
                set_state(registry, item.hosted, AppState.STARTING)

    def _start_one(self, task: DeploymentTask) -> None:
        """In a thread of the pool."""
        current = task.deployment.revision == task.hosted.timeline.revision
        first = task.deployment.state is not DeploymentState.READY
        try:
            with (
                Registry.open(self._context.home) as registry,
                step(registry, task.deployment, "start") if first else nullcontext(),
            ):
                running = start(
                    registry,
                    task.hosted,
                    task.deployment,
                    self._context.router,
                    self._context.spare,
                    lambda: task.stop.is_set() or self._context.stopping.is_set(),
                    deploying=not current,
                )
            self._context.tell(StartEnded(task, running))
            if self._context.stopping.is_set():
                running.service.stop()
        except Exception as error:  # of one revision, whatever it is
            why = error.__cause__ if isinstance(error, StepFailed) and error.__cause__ else error
            failure = str(why) if isinstance(why, ProvisionerError) else summary(why)
            self._context.tell(StartEnded(task, None, failure))

    def serve(self, registry: Registry, item: TimelineApp, deployment: Deployment, running: RunningApp) -> None:
        """Have a timeline's requests go to this process, and end the one before once it has answered its own."""
        with registry.change():
            self._record(registry, item, deployment)
        self._switch(registry, item, deployment, running)

    def _record(self, registry: Registry, item: TimelineApp, deployment: Deployment) -> None:
        set_state(registry, item.hosted, AppState.RUNNING, active=deployment.id)
        record_event(registry, item.hosted, "timeline.healthy", deployment.revision)

    def _switch(self, registry: Registry, item: TimelineApp, deployment: Deployment, running: RunningApp) -> None:
        """What is recorded is committed: a failure before that must not have changed where requests go."""
        self._routes.route(registry, item, running)
        failpoints.point("hosting.routed")
        self._context.log("info", "app runs", app=item.hosted.app.slug, host=self._context.host(item.hosted))
        before, item.serving = item.serving, deployment.id
        if before != deployment.id and (old := item.running.pop(before, None)) is not None:
            self._context.ends.submit(drain, self._context, old)
        item.answer("", AppRunning(running.port))
        clean(registry, item.hosted, deployment.id, set(item.running) | set(item.tasks))

    def fail(self, registry: Registry, item: TimelineApp, deployment: Deployment) -> None:
        """Record why a deployment does not serve. The previous deployment keeps serving."""
        state = hosting.hosted(registry, item.hosted.timeline.id)
        serving = state is not None and state.active in item.running
        set_state(registry, item.hosted, AppState.RUNNING if serving else AppState.FAILED, error=deployment.error)
        record_event(registry, item.hosted, "timeline.deploy-failed", deployment.error)
        self._context.log(
            "warning", deployment.error, app=item.hosted.app.slug, timeline=os.fsdecode(item.hosted.timeline.name)
        )
        item.answer(deployment.id, self.failed(deployment))

    def failed(self, deployment: Deployment) -> AppFailed:
        return AppFailed(deployment.error, last_lines(app_log(self._context.home, deployment.id), TAIL_LINES))

    def tick(self, registry: Registry) -> None:
        """See which processes have ended, which are idle, and which are to be started again."""
        now = time.monotonic()
        with suppress(StorageFailed):  # then the next app starts without
            self._context.spare.prepare()
        for item, running in self._context.apps.running():
            self.check(registry, item, running)
        if now >= self._compared + COMPARE_SECONDS:
            self._compared = now
            for item, running in self._context.apps.running():
                self._compare(registry, item, running)
        self._uses.note(now)
        if self._crowded_out and now >= self._retried + ROOM_SECONDS:
            self._retried = now
            for app_id in self._crowded_out:
                self._context.tell(LookAtApp(app_id))
            self._crowded_out = set()
        idle = [(item, running) for item, running in self._context.apps.running() if is_idle(item, running, now)]
        connected = connections({running.port for _, running in idle}) if idle else {}
        for item, running in idle:
            if connected.get(running.port):  # also one that has been open for long
                item.last_used[running.deployment_id] = now
            else:
                self._put_to_sleep(registry, item, running)
        for item in self._context.apps:
            if item.restart_at is not None and item.restart_at <= now and not item.tasks:
                item.restart_at = None
                self._restart(registry, item)

    def _restart(self, registry: Registry, item: TimelineApp) -> None:
        """Start what is to serve, or what served before if that has failed. An app that sleeps or was stopped stays so."""
        found = wanted_of(registry, item.hosted)
        if found.state.state in (AppState.STOPPED, AppState.SLEEPING):
            return
        for each in (found.latest, hosting.deployment(registry, found.state.active)):
            if each is not None and each.state is DeploymentState.READY:
                if each.id not in item.running:
                    self.begin(registry, item, each, serves=True)
                return

    def _compare(self, registry: Registry, item: TimelineApp, running: RunningApp) -> None:
        """Start an app again whose variables have changed: its credentials, where its data is, or what a person set."""
        hosted, deployment = fresh(registry, item.hosted), hosting.deployment(registry, running.deployment_id)
        if deployment is None:
            return
        try:
            changed = digest(reach(registry, hosted, deploying=True)) != running.environment
        except ProvisionerError:  # its databases are not connected now: the next look compares again
            return
        state = hosting.hosted(registry, hosted.timeline.id)
        if not changed or item.tasks or state is None:
            return
        item.hosted = hosted
        self._context.log(
            "info", "app starts again: its environment changed", app=hosted.app.slug, host=self._context.host(hosted)
        )
        del item.running[running.deployment_id]
        self._routes.unroute(running)
        self._context.ends.submit(drain, self._context, running)
        self.begin(registry, item, deployment, serves=state.active == deployment.id)

    def check(self, registry: Registry, item: TimelineApp, running: RunningApp) -> None:
        """Notice that a process has ended unexpectedly, if it has."""
        why = running.service.ended()
        if why is None:
            return
        del item.running[running.deployment_id]
        self._routes.unroute(running)
        item.ended(running.deployment_id)
        self._context.log(
            "warning", f"app ended: {why}", app=item.hosted.app.slug, timeline=os.fsdecode(item.hosted.timeline.name)
        )
        state = hosting.hosted(registry, item.hosted.timeline.id)
        if not item.running and state is not None and state.active == running.deployment_id:
            set_state(registry, item.hosted, AppState.STARTING, error=why)

    def _put_to_sleep(self, registry: Registry, item: TimelineApp, running: RunningApp) -> None:
        del item.running[running.deployment_id]
        self._routes.unroute(running)
        failpoints.point("hosting.unrouted")
        if not item.running:
            set_state(registry, item.hosted, AppState.SLEEPING)
        self._context.ends.submit(drain, self._context, running)

    def _make_room(self, registry: Registry) -> bool:
        """Put the app to sleep that was used the longest ago, if there is one that is not in use."""
        used = connections({running.port for _, running in self._context.apps.running()})
        idle = [
            (item.last_used.get(running.deployment_id, 0.0), item, running)
            for item, running in self._context.apps.running()
            if not used[running.port] and not item.hosted.timeline.production and not item.tasks
        ]
        if not idle:
            return False
        _, item, running = min(idle, key=lambda each: each[0])
        self._put_to_sleep(registry, item, running)
        return True
