"""How an app is built and started for its timelines: what a user sets, checked, and shown again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms
from provisioner.core.durations import milliseconds
from provisioner.core.errors import UsageError
from provisioner.core.hosting import AppState, RunCommand
from provisioner.core.model import App
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system import inbox

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


def set_run(registry: Registry, app: App, settings: RunSettings) -> Proposal:
    """Have the app's timelines run an app in this way from now on. Raises UsageError."""
    settings.of(app, hosting.run_command(registry, app.id))

    def do(_: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            before = hosting.run_command(registry, app.id)
            found = settings.of(app, before)
            hosting.save_run_command(registry, found)
            said = found.command or "from the repository"
            registry.record(now_ms(), "app.run", registry.who, app_id=app.id, detail=said)
            for state in hosting.all_hosted(registry, app.id):
                if before is not None and state.state is AppState.FAILED:
                    hosting.save_hosted(registry, replace(state, state=AppState.STARTING))
        inbox.leave(registry.home.inbox, app.id)
        yield f"App {app.slug} runs for each timeline. To see the URLs, run: provisioner status"

    return Proposal(do)


def set_no_run(registry: Registry, app: App) -> Proposal:
    """Stop running an app for its timelines; running ones are ended."""

    def do(_: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            hosting.forget_run_command(registry, app.id)
            registry.record(now_ms(), "app.run", registry.who, app_id=app.id, detail="none")
        inbox.leave(registry.home.inbox, app.id)
        yield f"App {app.slug} no longer runs"

    question = f"Stop running {app.slug}? Its URLs stop answering, and its deploys and their logs are deleted."
    return Proposal(do, f"{question} Its databases stay.")


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
