"""A user's changes of a timeline's app: start, stop, redeploy, roll back, and lock to a revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.hosting import AppState, DeploymentState, HostedApp, RunCommand
from provisioner.core.model import App, Timeline
from provisioner.core.naming import SHORT_REVISION, shown
from provisioner.git.refs import commit_of
from provisioner.hosting.deployments.due import wanted_of
from provisioner.hosting.deployments.history import ASKED, healthy_before
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import advance, app_of, begin
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.router_address import address

Document = dict[str, object]
Change = Callable[[HostedApp], tuple[HostedApp, str]]
"""The new record of a timeline's app, and what that does, for people. Raises ProvisionerError."""
Choice = Callable[[Registry, HostedApp, Timeline], str]
"""The revision that is meant if none is given. Raises ProvisionerError."""


def start(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Have a timeline's app run; one that failed is tried again. Raises NotResolved."""

    def change(state: HostedApp) -> tuple[HostedApp, str]:
        return replace(state, state=AppState.STARTING), f"Starting the app of {shown(timeline.name)}"

    return _changed(registry, app, timeline, "app.start", change)


def stop(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """End a timeline's app until a user starts it. Raises NotResolved."""

    def change(state: HostedApp) -> tuple[HostedApp, str]:
        return replace(state, state=AppState.STOPPED), f"Stopping the app of {shown(timeline.name)}"

    proposal = _changed(registry, app, timeline, "app.stop", change)
    if not timeline.production:
        return proposal
    question = f"Stop the production app of {app.slug}? Its URL answers no requests until you start it."
    return replace(proposal, question=question)


def redeploy(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Build the revision again and start it. Raises NotResolved."""

    def change(state: HostedApp) -> tuple[HostedApp, str]:
        hosted = HostedTimeline(app, registry.timeline(timeline.id), _run_command(registry, app))
        found = wanted_of(registry, hosted)
        if found.latest is not None and found.latest.state is DeploymentState.READY:  # it serves until the new one does
            again = begin(registry, hosted, found.revision, ASKED, DeploymentState.CUT_OFF)
            advance(registry, again, DeploymentState.CUT_OFF, "the next one builds the revision again")
        return replace(state, state=AppState.STARTING), f"Redeploying the app of {shown(timeline.name)}"

    return _changed(registry, app, timeline, "app.redeploy", change)


def lock(registry: Registry, app: App, timeline: Timeline, commit: str | None) -> Proposal:
    """Keep a timeline's app at a revision, by default the one that runs. Raises NotResolved."""
    said = f"Locked the app of {shown(timeline.name)} to"
    return _kept_at(registry, app, timeline, commit, _active, "app.lock", lambda revision: f"{said} {revision}")


def unlock(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Let a timeline's app follow its branch again. Raises NotResolved."""

    def change(state: HostedApp) -> tuple[HostedApp, str]:
        if not state.locked:
            raise ProvisionerError(f"the app of {shown(timeline.name)} is not locked to a revision")
        return _served(state, ""), f"The app of {shown(timeline.name)} follows its branch again"

    return _changed(registry, app, timeline, "app.unlock", change)


def roll_back(registry: Registry, app: App, timeline: Timeline, commit: str | None) -> Proposal:
    """Have a timeline's app go back to a revision and stay there, by default to the last healthy one before.

    Raises NotResolved.
    """
    said = f"Rolling back the app of {shown(timeline.name)} to"
    return _kept_at(
        *(registry, app, timeline, commit, _before, "app.rollback"),
        lambda revision: f"{said} {revision}, and locking it there",
    )


def url(registry: Registry, app: App, timeline: Timeline) -> str | None:
    """The URL of a timeline's app; None if none is run for it."""
    command = hosting.run_command(registry, app.id)
    if command is None or timeline.preview:
        return None
    router = address(registry.home)
    return router.url(HostedTimeline(app, timeline, command).host(router.domain))


def deployment_documents(registry: Registry, timeline: Timeline) -> list[Document]:
    """The deployments of a timeline's app, the newest first, as JSON has them."""
    return [
        {
            "id": each.id,
            "revision": each.revision,
            "state": str(each.state),
            "error": each.error or None,
            "cause": each.cause,
            "created_at": rfc3339(each.created_at),
            "ended_at": None if each.ended_at is None else rfc3339(each.ended_at),
            "steps": [
                {
                    "name": step.name,
                    "state": str(step.state),
                    "error": step.error or None,
                    "started_at": rfc3339(step.started_at),
                    "ended_at": None if step.ended_at is None else rfc3339(step.ended_at),
                }
                for step in hosting.steps(registry, each.id)
            ],
        }
        for each in hosting.deployments(registry, timeline.id)
    ]


def _changed(registry: Registry, app: App, timeline: Timeline, action: str, change: Change) -> Proposal:
    """Change the record of a timeline's app, and have the daemon act on it. Raises NotResolved."""
    _has_app(registry, app, timeline)

    def do(_: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            changed, said = change(app_of(registry, _has_app(registry, app, registry.timeline(timeline.id))))
            hosting.save_hosted(registry, changed)
            registry.audit(now_ms(), action, timeline)
        inbox.leave(registry.home.inbox, app.id)
        yield f"{said}: {url(registry, app, timeline)}"

    return Proposal(do)


def _has_app(registry: Registry, app: App, timeline: Timeline) -> HostedTimeline:
    """Raises NotResolved if no app is run for the timeline."""
    command = _run_command(registry, app)
    if timeline.gone_at is not None:
        raise NotResolved(f"the branch of {shown(timeline.name)} is gone, and its app with it", "Push the branch again")
    if timeline.preview:
        raise NotResolved(f"{shown(timeline.name)} is a preview, which has databases but no app", "Choose a branch")
    return HostedTimeline(app, timeline, command)


def _run_command(registry: Registry, app: App) -> RunCommand:
    command = hosting.run_command(registry, app.id)
    if command is None:
        raise NotResolved(
            f"app {app.slug} has no command to run", f"Set one: provisioner app run {app.slug} --command CMD"
        )
    return command


def _served(state: HostedApp, locked: str) -> HostedApp:
    """It is to serve the revision `locked`, or with the empty one its branch. A stopped app stays stopped."""
    return replace(state, locked=locked, state=state.state if state.state is AppState.STOPPED else AppState.STARTING)


def _kept_at(
    registry: Registry,
    app: App,
    timeline: Timeline,
    commit: str | None,
    usual: Choice,
    action: str,
    said: Callable[[str], str],
) -> Proposal:
    """Have a timeline's app serve a commit from now on, or the `usual` revision; `said` tells the user of it."""
    meant = _commit(app, commit) if commit else ""

    def change(state: HostedApp) -> tuple[HostedApp, str]:
        revision = meant or usual(registry, state, timeline)
        return _served(state, revision), said(revision[:SHORT_REVISION])

    return _changed(registry, app, timeline, action, change)


def _active(registry: Registry, state: HostedApp, timeline: Timeline) -> str:
    found = hosting.deployment(registry, state.active) if state.active else None
    if found is None:
        raise NotResolved(
            f"no revision of {shown(timeline.name)} was healthy yet", "Choose a commit: provisioner app lock COMMIT"
        )
    return found.revision


def _before(registry: Registry, state: HostedApp, timeline: Timeline) -> str:
    now = _active(registry, state, timeline)
    found = healthy_before(hosting.deployments(registry, timeline.id), state.active)
    if found is not None:
        return found.revision
    raise NotResolved(
        f"no revision of {shown(timeline.name)} before {now[:SHORT_REVISION]} was healthy",
        "Choose a commit: provisioner app rollback COMMIT",
    )


def _commit(app: App, commit: str) -> str:
    found = commit_of(app.git_dir, commit)
    if found is None:
        raise NotResolved(f"{commit!r} is not a commit of app {app.slug}", "Use a commit id, a branch, or a tag")
    return found
