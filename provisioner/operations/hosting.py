"""How an app runs, and a user's commands for a timeline's app: start, stop, roll back, lock to a revision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.durations import milliseconds
from provisioner.core.errors import NotResolved, ProvisionerError, UsageError
from provisioner.core.hosting import AppState, Deployment, DeploymentState, HostedApp, RunCommand
from provisioner.core.model import App, Timeline
from provisioner.core.naming import SHORT_REVISION, shown
from provisioner.git.refs import commit_of
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import app_of
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.router_address import address

NEVER = "never"
Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of `provisioner app run`. None leaves a setting as it is."""

    command: str | None = None
    install: str | None = None
    build: str | None = None
    directory: str | None = None
    health: str | None = None
    idle: str | None = None
    from_repository: bool = False
    public: bool | None = None
    unfenced: bool | None = None
    memory: int | None = None

    def of(self, app: App, before: RunCommand | None) -> RunCommand:
        """How the app is run with these settings. Raises UsageError."""
        if self.command is not None and self.from_repository:
            raise UsageError("--command and --from-repository cannot be used together", "Choose one")
        if self.command is not None and not self.command.strip():
            raise UsageError("the command is empty", "To run no app, use --no-command")
        if before is None and self.command is None and not self.from_repository:
            raise UsageError("nothing says how to start the app", "Use --command CMD or --from-repository")
        found = before or RunCommand(app.id, "")
        if self.command is not None:
            found = replace(found, command=self.command, from_repository=False)
        if self.from_repository:
            found = replace(found, command="", from_repository=True)
        if self.idle is not None:
            found = replace(found, idle_ms=None if self.idle == NEVER else _idle(self.idle))
        changes = {
            "install": self.install,
            "build": self.build,
            "directory": None if self.directory is None else _directory(self.directory),
            "health": None if self.health is None else _path(self.health),
            "public": self.public,
            "unfenced": self.unfenced,
            "memory_bytes": self.memory,
        }
        found = replace(found, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
        return replace(found, changed_at=found.changed_at or now_ms())


def set_run(registry: Registry, app: App, settings: RunSettings) -> RunCommand:
    """Have the app's timelines run an app in this way from now on. Raises UsageError."""
    before = hosting.run_command(registry, app.id)
    found = settings.of(app, before)
    with app_locked(registry, app), registry.change():
        hosting.save_run_command(registry, found)
        registry.record(now_ms(), "app.run", registry.who, app_id=app.id, detail=found.command or "from the repository")
        for state in hosting.all_hosted(registry, app.id):
            if before is not None and state.state is AppState.FAILED:
                hosting.save_hosted(registry, replace(state, state=AppState.STARTING))
    inbox.leave(registry.home.inbox, app.id)
    return found


def set_no_run(registry: Registry, app: App) -> None:
    """Stop running an app for its timelines; running ones are ended."""
    with app_locked(registry, app), registry.change():
        hosting.forget_run_command(registry, app.id)
        registry.record(now_ms(), "app.run", registry.who, app_id=app.id, detail="none")
    inbox.leave(registry.home.inbox, app.id)


def start(registry: Registry, app: App, timeline: Timeline) -> None:
    """Have a timeline's app run; one that failed is tried again. Raises NotResolved."""
    with _changed(registry, app, timeline, "app.start") as state:
        hosting.save_hosted(registry, replace(state, state=AppState.STARTING))


def stop(registry: Registry, app: App, timeline: Timeline) -> None:
    """End a timeline's app until a user starts it. Raises NotResolved."""
    with _changed(registry, app, timeline, "app.stop") as state:
        hosting.save_hosted(registry, replace(state, state=AppState.STOPPED))


def redeploy(registry: Registry, app: App, timeline: Timeline) -> None:
    """Build the revision again and start it. Raises NotResolved."""
    with _changed(registry, app, timeline, "app.redeploy") as state:
        wanted = state.locked or timeline.revision
        for each in hosting.deployments(registry, timeline.id):
            if each.revision == wanted and each.state in (DeploymentState.READY, DeploymentState.FAILED):
                hosting.save_deployment(
                    registry, replace(each, state=DeploymentState.CUT_OFF, error="it was redeployed")
                )
        hosting.save_hosted(registry, replace(state, state=AppState.STARTING))


def lock(registry: Registry, app: App, timeline: Timeline, commit: str | None) -> str:
    """Keep a timeline's app at a revision, by default the one that runs: which. Raises NotResolved."""
    with _changed(registry, app, timeline, "app.lock") as state:
        revision = _commit(app, commit) if commit else _active(registry, state, timeline)
        hosting.save_hosted(registry, replace(state, locked=revision, state=AppState.STARTING))
    return revision


def unlock(registry: Registry, app: App, timeline: Timeline) -> None:
    """Let a timeline's app follow its branch again. Raises NotResolved."""
    with _changed(registry, app, timeline, "app.unlock") as state:
        if not state.locked:
            raise ProvisionerError(f"the app of {shown(timeline.name)} is not locked to a revision")
        hosting.save_hosted(registry, replace(state, locked="", state=AppState.STARTING))


def roll_back(registry: Registry, app: App, timeline: Timeline, commit: str | None) -> str:
    """Have a timeline's app go back to a revision and stay there, by default to the last healthy one before: which.

    Raises NotResolved.
    """
    with _changed(registry, app, timeline, "app.rollback") as state:
        revision = _commit(app, commit) if commit else _before(registry, state, timeline)
        hosting.save_hosted(registry, replace(state, locked=revision, state=AppState.STARTING))
    return revision


def url(registry: Registry, app: App, timeline: Timeline) -> str | None:
    """The URL of a timeline's app; None if none is run for it."""
    command = hosting.run_command(registry, app.id)
    if command is None or timeline.preview:
        return None
    router = address(registry.home)
    return router.url(HostedTimeline(app, timeline, command).host(router.domain))


def run_document(registry: Registry, app: App) -> Document | None:
    """How an app is run, as JSON has it."""
    found = hosting.run_command(registry, app.id)
    if found is None:
        return None
    return {
        "command": found.command or None,
        "install": found.install or None,
        "build": found.build or None,
        "directory": found.directory or None,
        "health": found.health or None,
        "idle_ms": found.idle_ms,
        "from_repository": found.from_repository,
        "public": found.public,
        "unfenced": found.unfenced,
        "memory_bytes": found.memory_bytes,
    }


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


@contextmanager
def _changed(registry: Registry, app: App, timeline: Timeline, action: str) -> Iterator[HostedApp]:
    """Change the record of a timeline's app, and have the daemon act on it."""
    command = hosting.run_command(registry, app.id)
    if command is None:
        raise NotResolved(
            f"app {app.slug} has no command to run", f"Set one: provisioner app run {app.slug} --command CMD"
        )
    if timeline.gone_at is not None:
        raise NotResolved(f"the branch of {shown(timeline.name)} is gone, and its app with it", "Push the branch again")
    with app_locked(registry, app), registry.change():
        yield app_of(registry, HostedTimeline(app, timeline, command))
        registry.audit(now_ms(), action, timeline)
    inbox.leave(registry.home.inbox, app.id)


def _active(registry: Registry, state: HostedApp, timeline: Timeline) -> str:
    found = hosting.deployment(registry, state.active) if state.active else None
    if found is None:
        raise NotResolved(
            f"no revision of {shown(timeline.name)} was healthy yet", "Choose a commit: provisioner app lock COMMIT"
        )
    return found.revision


def _before(registry: Registry, state: HostedApp, timeline: Timeline) -> str:
    def healthy(each: Deployment) -> bool:
        return each.state is DeploymentState.READY

    now = _active(registry, state, timeline)
    for each in hosting.deployments(registry, timeline.id):
        if healthy(each) and each.revision != now and each.id != state.active:
            return each.revision
    raise NotResolved(
        f"no revision of {shown(timeline.name)} before {now[:SHORT_REVISION]} was healthy",
        "Choose a commit: provisioner app rollback COMMIT",
    )


def _commit(app: App, commit: str) -> str:
    found = commit_of(app.git_dir, commit)
    if found is None:
        raise NotResolved(f"{commit!r} is not a commit of app {app.slug}", "Use a commit id, a branch, or a tag")
    return found


def _idle(text: str) -> int:
    found = milliseconds(text)
    if found < 1000:
        raise UsageError(f"{text!r} is too short to be idle", "Use at least 1s, or never")
    return found


def _directory(path: str) -> str:
    normal = os.path.normpath(path) if path else ""
    if os.path.isabs(normal) or normal.startswith(".."):
        raise UsageError(f"{path!r} is not a directory of a repository", "Use a path relative to the repository's top")
    return "" if normal == "." else normal


def _path(path: str) -> str:
    if path and (not path.startswith("/") or any(char <= " " or char == "\x7f" for char in path)):
        raise UsageError(f"{path!r} is not the path of a request", "Start it with /, for example /healthz")
    return path
