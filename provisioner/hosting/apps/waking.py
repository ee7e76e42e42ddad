"""Requests for an app that does not run: it is started, or the client gets the reason why not."""

from __future__ import annotations

import shlex
import time

from provisioner.core.hosting import AppState, Deployment, DeploymentState
from provisioner.core.naming import shown
from provisioner.hosting.apps.app_routes import AppRoutes
from provisioner.hosting.apps.context import HostingContext, fresh
from provisioner.hosting.apps.deploying import DeploymentController
from provisioner.hosting.apps.messages import WakeSite
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.apps.serving import Serving
from provisioner.hosting.apps.sites import HostedSite
from provisioner.hosting.deployments.cleaning import has_files
from provisioner.hosting.deployments.due import Wanted, is_connected, wanted_of
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import is_stopped, set_state
from provisioner.hosting.router.waking import AppFailed, AppRunning, AppStopped, NoSuchApp
from provisioner.registry import hosting
from provisioner.registry.store import Registry


class Waking:
    """For the thread of the manager alone."""

    def __init__(self, context: HostingContext, serving: Serving, deploying: DeploymentController) -> None:
        self._context, self._serving, self._deploying = context, serving, deploying
        self._routes = AppRoutes(context)

    def wake(self, registry: Registry, message: WakeSite) -> None:
        site, hosted = message.site, message.site.hosted
        item = self._context.apps.of(fresh(registry, hosted))
        if is_stopped(registry, item.hosted):  # since its site was looked up
            message.woken.set_result(AppStopped(_start_command(hosted)))
            return
        if site.deployment is not None and not has_files(registry, hosted, site.deployment):
            message.woken.set_result(NoSuchApp())
            return
        if site.deployment is not None:
            self._wake_deployment(registry, item, site.deployment, message, serves=False)
            return
        active = item.running.get(site.state.active)
        if active is not None and message.unreachable == active.port:
            self._serving.check(registry, item, active)
            active = item.running.get(site.state.active)
        if active is not None:
            self._routes.route(registry, item, active)
            item.last_used[active.deployment_id] = time.monotonic()
            message.woken.set_result(AppRunning(active.port))
            return
        found = wanted_of(registry, item.hosted)
        under_way = next((task for task in item.tasks.values() if task.serves and not task.stop.is_set()), None)
        if under_way is not None:
            item.waiting.setdefault(under_way.deployment.id, []).append(message.woken)
        elif (usable := self._usable(registry, site, found)) is not None:
            self._wake_deployment(registry, item, usable, message, serves=True)
        elif found.latest is not None and found.latest.state is DeploymentState.FAILED:
            message.woken.set_result(self._serving.failed(found.latest))
        elif not is_connected(registry, item.hosted):
            message.woken.set_result(AppFailed("its databases are not connected. See: provisioner status"))
        else:
            item.waiting.setdefault("", []).append(message.woken)
            set_state(registry, item.hosted, AppState.STARTING)
            self._deploying.advance(registry, wanted_of(registry, item.hosted))

    def _wake_deployment(
        self, registry: Registry, item: TimelineApp, deployment: Deployment, message: WakeSite, *, serves: bool
    ) -> None:
        running = item.running.get(deployment.id)
        if running is not None:
            item.last_used[deployment.id] = time.monotonic()
            message.woken.set_result(AppRunning(running.port))
            return
        item.waiting.setdefault(deployment.id, []).append(message.woken)
        if item.pauses(deployment.id) and deployment.error:
            item.answer(deployment.id, self._serving.failed(deployment))
            return
        self._serving.begin(registry, item, deployment, serves=serves)

    def _usable(self, registry: Registry, site: HostedSite, found: Wanted) -> Deployment | None:
        """What was healthy before: the revision that is wanted, else, if that does not serve, the one that was active."""
        tried = found.latest is not None and found.latest.state in (DeploymentState.FAILED, DeploymentState.SKIPPED)
        active = hosting.deployment(registry, site.state.active) if tried and site.state.active else None
        for each in (found.latest, active):
            if each is not None and each.state is DeploymentState.READY and has_files(registry, site.hosted, each):
                return each
        return None


def _start_command(hosted: HostedTimeline) -> str:
    return f"provisioner app start --app {hosted.app.slug} --timeline {shlex.quote(shown(hosted.timeline.name))}"
