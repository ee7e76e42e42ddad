"""Running the pre-deploy command after data was replaced, and on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Status, Timeline, deploy_status
from provisioner.core.naming import shown
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import queries
from provisioner.registry.store import Registry


def deploy(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Run the pre-deploy command on a timeline at its revision, even if it has succeeded there."""
    name = shown(timeline.name)
    if not app.deploys:
        raise ProvisionerError(
            f"app {app.slug!r} has no pre-deploy command", f"Set one: provisioner app set {app.slug} --pre-deploy CMD"
        )
    if timeline.sharing:
        raise ProvisionerError(
            f"{name} uses another timeline's database, on which its pre-deploy command never runs",
            f"Give it its own first: provisioner database unshare {name}",
        )

    def do(reporter: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            registry.save_timelines([replace(registry.timeline(timeline.id), deployed="", failure=None)])
            registry.audit(now_ms(), "timeline.deploy-asked", timeline)
        yield from _deployed(registry, app, timeline, reporter, "timeline deploy", "")

    return Proposal(do)


def after_change(
    registry: Registry, app: App, timeline: Timeline, reporter: ProgressReporter, *, wanted: bool
) -> Iterator[str]:
    """Run the command after data was replaced, or report that it was not `wanted`.

    Raises ProvisionerError if it fails: the data stays.
    """
    current = registry.timeline(timeline.id)
    if not app.deploys or current.sharing or current.gone_at is not None or not current.revision:
        return
    name = shown(current.name)
    if not wanted:
        yield f"The pre-deploy command was not run. To run it: provisioner timeline deploy {name}"
        return
    yield from _deployed(registry, app, current, reporter, "deploy", "The new data stays. ")


def _deployed(
    registry: Registry, app: App, timeline: Timeline, reporter: ProgressReporter, cause: str, then: str
) -> Iterator[str]:
    from provisioner.jobs.queue import do_all  # most changes run no command

    name = shown(timeline.name)
    run(
        registry, app, cause, reporter, retry=queries.ids_of(registry, timeline)
    )  # the revision may be a newer one by now
    reporter.say(f"{name}: running the pre-deploy command at {registry.timeline(timeline.id).revision[:12]}")
    do_all(registry, app, cause, timeline=timeline.name, say=reporter.say, stop=reporter.stopping)
    now = registry.timeline(timeline.id)
    status = deploy_status(app, now)
    again = f"run it again: provisioner timeline deploy {name}"
    if status is Status.CONNECTED:
        yield f"The pre-deploy command succeeded on {name} at {now.revision[:12]}"
    elif status is Status.ERROR:
        raise ProvisionerError(f"{now.failure}", f"{then}Resolve this, then {again}")
    else:
        raise ProvisionerError(
            f"the pre-deploy command did not run on {name}: its databases are not connected, or it was stopped",
            f"{then}See: provisioner status. Then {again}",
        )
