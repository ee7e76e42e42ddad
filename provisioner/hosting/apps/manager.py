"""The apps of all timelines: one thread decides, others build and start.

It compares what the registry says with what runs, as reconcile does for databases: a look that is missed or repeated changes
nothing. What it remembers ends with the process; when the daemon starts again, what ran is started again.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import ParamSpec, assert_never

from provisioner.core.errors import summary
from provisioner.core.hosting import AppState
from provisioner.core.ids import AppId, TimelineId
from provisioner.hosting.apps.app_routes import AppRoutes
from provisioner.hosting.apps.context import HostingContext, Log
from provisioner.hosting.apps.deploying import DeploymentController
from provisioner.hosting.apps.messages import BuildEnded, LookAtApp, Message, ProcessEnded, StartEnded, WakeSite
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.apps.serving import RETRY_SECONDS, Serving
from provisioner.hosting.apps.sites import site_of
from provisioner.hosting.apps.waking import Waking
from provisioner.hosting.deployments.cleaning import forget_all, settle
from provisioner.hosting.deployments.due import gone, has_databases, name_new, wanted
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import set_state
from provisioner.hosting.deployments.starting import STOP_SECONDS, RunningApp
from provisioner.hosting.router.waking import AppFailed, AppsBusy, NoSuchApp, Site, Woken
from provisioner.reconcile.apply.isolation import problem_of
from provisioner.registry import hosting, queries
from provisioner.registry.store import Registry
from provisioner.system import failpoints, inbox
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress
from provisioner.system.service_thread import ServiceThread

TICK_SECONDS = 0.5

_P = ParamSpec("_P")


class AppManager:
    """The manager of a home's apps. Its methods may be called from any thread and return at once."""

    def __init__(self, home: Home, router: RouterAddress, log: Log, most: int) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._context = HostingContext(home, router, log, most, self._queue.put)
        self._routes = AppRoutes(self._context)
        self._serving = Serving(self._context)
        self._deploying = DeploymentController(self._context, self._serving)
        self._waking = Waking(self._context, self._serving, self._deploying)
        self._thread = ServiceThread("apps", self._work)
        self._settled = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End all apps. They are started again when a manager is."""
        context = self._context
        context.stopping.set()
        self._thread.stop()
        self._queue.put(None)
        self._thread.join()
        for item in context.apps:
            for task in item.tasks.values():
                task.stop.set()
            item.answer_all(AppsBusy(RETRY_SECONDS))
        for _, running in context.apps.running():
            context.ends.submit(running.service.stop, STOP_SECONDS)
        context.builds.close()
        for pool in (context.starts, context.ends):
            pool.shutdown(wait=True, cancel_futures=pool is not context.ends)
        self._clear_routes()  # another program may get a port that an app had
        context.spare.close()

    def look(self, app_id: AppId) -> None:
        """Something of an app may have changed: its branches, databases, or how it is run."""
        self._queue.put(LookAtApp(app_id))

    # what the router's gateway asks

    def find(self, host: str) -> Site | None:
        with Registry.open(self._context.home) as registry:
            site = site_of(registry, host, self._context.router)
        if site is None:
            return None
        hosted = site.hosted
        return Site(hosted.app.id, site.name, site.is_open(self._context.router), hosted.timeline.production)

    def wake(self, host: str, unreachable: int | None) -> Future[Woken]:
        woken: Future[Woken] = Future()
        with Registry.open(self._context.home) as registry:
            site = site_of(registry, host, self._context.router)
        if site is None:
            woken.set_result(NoSuchApp())
        elif self._context.stopping.is_set():
            woken.set_result(AppsBusy(RETRY_SECONDS))
        else:
            self._queue.put(WakeSite(site, unreachable, woken))
        return woken

    # the thread

    def _work(self) -> None:
        with Registry.open(self._context.home) as registry:
            if not self._settled:
                self._begin(registry)
                self._settled = True
            looked = time.monotonic()
            while not self._context.stopping.is_set():
                with suppress(queue.Empty):
                    message = self._queue.get(timeout=TICK_SECONDS)
                    if message is not None:
                        self._try(registry, message)
                if time.monotonic() >= looked + TICK_SECONDS:
                    looked = time.monotonic()
                    self._serving.tick(registry)

    def _begin(self, registry: Registry) -> None:
        """Find what a daemon before has left, and start what ran then."""
        self._clear_routes()
        settle(registry)
        for app_id in hosting.hosting_apps(registry):
            self._queue.put(LookAtApp(app_id))

    def _clear_routes(self) -> None:
        """Those of dev servers stay."""
        for host in self._context.routes.all().keys() - self._context.dev_hosts():
            self._context.routes.clear(host)

    def _try(self, registry: Registry, message: Message) -> None:
        """Act on a message. What goes wrong with one app keeps none of the others from its turn."""
        try:
            self._take(registry, message)
        except Exception as error:
            self._context.log("error", summary(error))
            if isinstance(message, WakeSite) and not message.woken.done():
                message.woken.set_result(AppFailed(summary(error)))

    def _take(self, registry: Registry, message: Message) -> None:
        match message:
            case LookAtApp():
                self._look(registry, message.app_id)
            case WakeSite():
                self._waking.wake(registry, message)
            case BuildEnded():
                self._deploying.built(registry, message)
            case StartEnded():
                self._serving.started(registry, message)
            case ProcessEnded():
                if (item := self._context.apps.known(message.timeline_id)) is not None:
                    item.ending -= 1
                    self._look(registry, item.hosted.app.id)
            case _:
                assert_never(message)

    def _look(self, registry: Registry, app_id: AppId) -> None:
        app, command = registry.app(app_id), hosting.run_command(registry, app_id)
        if app is None or command is None:
            for item in self._context.apps.of_app(app_id):
                self._end(registry, item, "its app no longer runs")
            for state in hosting.all_hosted(registry, app_id):
                if self._context.apps.known(state.timeline_id) is None:
                    forget_all(registry, state.timeline_id)
            return
        if app.detached_from is not None:  # the repository is the original home's
            return
        for hosted in gone(registry, app, command):
            self._alone(self._end, registry, self._context.apps.of(hosted), "its branch is gone")
        for item in self._context.apps.of_app(app_id):
            self._alone(self._update, registry, item)
        name_new(registry, app, command)
        for found in wanted(registry, app, command):
            self._alone(self._deploying.advance, registry, found)

    def _alone(self, step: Callable[_P, None], *about: _P.args, **options: _P.kwargs) -> None:
        """Take a step for one timeline. Its failure is logged, and the other timelines of the app have their turn."""
        if problem := problem_of(partial(step, *about, **options)):
            self._context.log("error", problem)

    def _update(self, registry: Registry, item: TimelineApp) -> None:
        """Bring what runs for a timeline to what the registry says of it."""
        self._refresh(registry, item)
        if item.running and not has_databases(registry, item.hosted):
            self._end(registry, item, "its databases are archived")
            set_state(registry, item.hosted, AppState.SLEEPING)

    def _refresh(self, registry: Registry, item: TimelineApp) -> None:
        """Take in what a person has changed: how it is run, and whether it is to run at all."""
        timeline = queries.timeline_by_id(registry, item.hosted.timeline.id)
        command = hosting.run_command(registry, item.hosted.app.id)
        app = registry.app(item.hosted.app.id)
        if timeline is None or command is None or app is None:
            return
        before, item.hosted = item.hosted, HostedTimeline(app, timeline, command)
        state = hosting.hosted(registry, timeline.id)
        if state is not None and state.state is AppState.STOPPED:
            self._end(registry, item, "it was stopped")
        elif self._context.host(before) != self._context.host(item.hosted) or before.command.public != command.public:
            self._context.routes.clear(self._context.host(before))
            for running in item.running.values():
                self._routes.unroute(running)  # a URL of its revision may not be open any longer
                if state is not None and state.active == running.deployment_id:
                    self._routes.route(registry, item, running)
        elif item.domains != self._routes.domains(registry, item):
            for running in item.running.values():
                if state is not None and state.active == running.deployment_id:
                    self._routes.route(registry, item, running)

    def _end(self, registry: Registry, item: TimelineApp, why: str) -> None:
        """End all of a timeline's app; if its branch is gone, nothing of it is left."""
        for task in item.tasks.values():
            task.stop.set()
        for running in list(item.running.values()):
            del item.running[running.deployment_id]
            self._routes.unroute(running)
            item.ending += 1
            self._context.ends.submit(self._stop, item.hosted.timeline.id, running)
        item.answer_all(AppFailed(why))
        if not item.tasks and not item.ending:
            if item.hosted.timeline.gone_at is not None:
                failpoints.point("hosting.ended")
                forget_all(registry, item.hosted.timeline.id)
                failpoints.point("hosting.forgotten")
                inbox.leave(registry.home.inbox, item.hosted.app.id)  # its databases were waiting for that
            self._context.apps.forget(item)

    def _stop(self, timeline_id: TimelineId, running: RunningApp) -> None:
        """In a thread of the pool."""
        running.service.stop(STOP_SECONDS)
        self._queue.put(ProcessEnded(timeline_id))
