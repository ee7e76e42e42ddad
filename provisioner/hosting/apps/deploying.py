"""Deployments: a revision is built, and started once its pre-deploy command has succeeded."""

from __future__ import annotations

from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.hosting import AppState, Deployment, DeploymentState
from provisioner.git.commit_info import commit_info
from provisioner.hosting.apps.context import HostingContext, fresh
from provisioner.hosting.apps.draining import discard
from provisioner.hosting.apps.messages import BuildEnded, DeploymentTask, LookAtApp
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.apps.serving import Serving
from provisioner.hosting.apps.waiting import keep_waiting
from provisioner.hosting.deployments.building import Superseded, build
from provisioner.hosting.deployments.cleaning import has_files
from provisioner.hosting.deployments.due import Wanted, is_connected, pre_deploy_failure
from provisioner.hosting.deployments.history import ASKED, PUSH
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import advance, begin, have_hooks_run, set_state
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system import failpoints


class DeploymentController:
    """For the thread of the manager alone, but for what is said to be in a thread of a pool."""

    def __init__(self, context: HostingContext, serving: Serving) -> None:
        self._context, self._serving = context, serving

    def advance(self, registry: Registry, found: Wanted) -> None:
        """Take the next step to what a timeline's app is to serve."""
        item = self._context.apps.of(found.hosted)
        for task in item.tasks.values():
            if task.serves:
                if task.deployment.revision != found.revision and not _is_fallback(found, task.deployment):
                    task.stop.set()  # what comes instead begins when it has ended
                return
        latest = found.latest
        if found.to_deploy or latest is None or self._is_lost(registry, found.hosted, latest):
            self._deploy(registry, item, found)
            return
        match latest.state:
            case DeploymentState.BUILT:
                self._start_built(registry, item, latest)
            case DeploymentState.READY if latest.id in item.running:
                if found.state.active != latest.id or found.asked:
                    self._serving.serve(registry, item, latest, item.running[latest.id])
                    have_hooks_run(registry, found.hosted)
            case DeploymentState.READY:
                if found.asked or found.state.active != latest.id or found.hosted.timeline.production:
                    self._serving.begin(registry, item, latest, serves=True)
            case _ if (before := self._to_fall_back_on(registry, item, found)) is not None:
                self._serving.begin(registry, item, before, serves=True)
            case _:
                item.answer_all(self._serving.failed(latest))

    def _to_fall_back_on(self, registry: Registry, item: TimelineApp, found: Wanted) -> Deployment | None:
        """What production served before, if what it is to serve has failed: it does not wait for a request."""
        if not found.hosted.timeline.production or item.running or not found.state.active:
            return None
        active = hosting.deployment(registry, found.state.active)
        usable = active is not None and active.state is DeploymentState.READY
        return active if active is not None and usable and has_files(registry, found.hosted, active) else None

    def _is_lost(self, registry: Registry, hosted: HostedTimeline, deployment: Deployment) -> bool:
        """Is a deployment at work that no thread works on, or ready without its files? It is recorded as cut off then."""
        item = self._context.apps.of(hosted)
        match deployment.state:
            case DeploymentState.BUILDING | DeploymentState.STARTING:
                lost = deployment.id not in item.tasks
            case DeploymentState.BUILT | DeploymentState.READY:
                lost = deployment.id not in item.running and not has_files(registry, hosted, deployment)
            case _:
                return False
        if lost:
            self._context.ends.submit(discard, self._context, deployment)
            why = "its files were lost, or its build or start was interrupted"
            advance(registry, deployment, DeploymentState.CUT_OFF, why)
        return lost

    def built(self, registry: Registry, ended: BuildEnded) -> None:
        task = ended.task
        item = self._context.apps.known(task.hosted.timeline.id) or self._context.apps.of(task.hosted)
        item.tasks.pop(task.deployment.id, None)
        item = self._context.apps.of(fresh(registry, task.hosted))
        if ended.superseded or task.stop.is_set():
            self._context.ends.submit(discard, self._context, task.deployment)
            advance(registry, task.deployment, DeploymentState.CUT_OFF, "a newer revision came, or it was stopped")
            keep_waiting(registry, item, task.deployment.id)
        elif ended.failure:
            with registry.change():
                failed = advance(registry, task.deployment, DeploymentState.FAILED, ended.failure)
                self._serving.fail(registry, item, failed)
        else:
            advance(registry, task.deployment, DeploymentState.BUILT)
            failpoints.point("hosting.built")
        self._context.tell(LookAtApp(item.hosted.app.id))

    def _deploy(self, registry: Registry, item: TimelineApp, found: Wanted) -> None:
        hosted = found.hosted
        if not is_connected(registry, hosted):
            return  # the look after its databases are connected begins it
        info = commit_info(hosted.app.git_dir, found.revision)
        if info is not None and info.skips_deployment and not found.asked:
            begin(registry, hosted, found.revision, PUSH, DeploymentState.SKIPPED)
            return
        deployment = begin(registry, hosted, found.revision, ASKED if found.asked else PUSH)
        active = found.state.active in item.running
        set_state(registry, hosted, AppState.RUNNING if active else AppState.BUILDING)
        failpoints.point("hosting.intended")
        task = DeploymentTask(hosted, deployment)
        item.tasks[deployment.id] = task
        item.wait_for(deployment.id)
        self._context.builds.submit(self._build, task)

    def _build(self, task: DeploymentTask) -> None:
        """In a thread of the pool."""
        try:
            with Registry.open(self._context.home) as registry:
                build(
                    registry,
                    task.hosted,
                    task.deployment,
                    self._context.spare,
                    lambda: task.stop.is_set() or self._context.stopping.is_set(),
                )
            self._context.tell(BuildEnded(task))
        except Superseded:
            self._context.tell(BuildEnded(task, superseded=True))
        except Exception as error:  # of one revision, whatever it is
            self._context.tell(BuildEnded(task, str(error) if isinstance(error, ProvisionerError) else summary(error)))

    def _start_built(self, registry: Registry, item: TimelineApp, deployment: Deployment) -> None:
        """Start what is built, if the pre-deploy command has succeeded; the look after that comes here again."""
        match pre_deploy_failure(item.hosted, deployment.revision):
            case None:
                return
            case "":
                self._serving.begin(registry, item, deployment, serves=True)
            case failure:
                self._context.ends.submit(discard, self._context, deployment)
                self._serving.fail(registry, item, advance(registry, deployment, DeploymentState.FAILED, failure))


def _is_fallback(found: Wanted, deployment: Deployment) -> bool:
    """Is it what served before, and what is wanted has failed? Then it is started, and not given up for that."""
    failed = found.latest is not None and found.latest.state in (DeploymentState.FAILED, DeploymentState.SKIPPED)
    return failed and found.state.active == deployment.id
