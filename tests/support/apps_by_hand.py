"""The manager of a home's apps without its thread: the test takes the messages one at a time, and nothing depends on time."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import git, ok, repository, until

from provisioner.core.hosting import Deployment, HostedApp
from provisioner.core.model import App, Timeline
from provisioner.hosting.apps.manager import AppManager
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import app_of
from provisioner.operations.proposal import NULL_REPORTER, Proposal
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress

BRANCH = b"git-branch/login"
# It does not start if its checkout has a file ``broken``, and is not built with the variable of that name.
SERVER = """
import http.server, os, sys
if os.path.exists("broken"):
    sys.exit(3)
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), http.server.BaseHTTPRequestHandler).serve_forever()
"""
RUN = ("--command", "exec python3 server.py", "--build", 'test -z "$BROKEN"', "--idle", "1h")


@dataclass(slots=True)
class AppsByHand:
    """The app ``shop`` of `repo`, of whose branch ``login`` an app is run."""

    repo: Path
    home: Home
    registry: Registry
    manager: AppManager
    said: list[str] = field(default_factory=list)

    @property
    def app(self) -> App:
        return self.registry.apps()[0]

    @property
    def timeline(self) -> Timeline:
        return next(each for each in self.registry.timelines(self.app.id) if each.name == BRANCH)

    @property
    def hosted(self) -> HostedTimeline:
        command = hosting.run_command(self.registry, self.app.id)
        assert command is not None
        return HostedTimeline(self.app, self.timeline, command)

    @property
    def state(self) -> HostedApp:
        return app_of(self.registry, self.hosted)

    @property
    def deployments(self) -> list[Deployment]:
        """The newest first."""
        return hosting.deployments(self.registry, self.timeline.id)

    @property
    def item(self) -> TimelineApp:
        return self.manager._context.apps.of(self.hosted)

    @property
    def running(self) -> list[str]:
        """The deployments that have a process."""
        return sorted(self.item.running)

    @property
    def busy(self) -> bool:
        return bool(self.item.tasks)

    @property
    def routes(self) -> dict[str, int]:
        return self.manager._context.routes.all()

    def checkout(self, deployment: Deployment) -> Path:
        return Path(self.home.work) / deployment.id / "checkout"

    def push(self, text: str, **changed: str) -> str:
        """A commit on the branch, with these files: its id."""
        for name, contents in (changed or {"note": text}).items():
            (self.repo / name).write_text(contents)
        git(self.repo, "add", ".")
        git(self.repo, "commit", "-q", "--allow-empty", "-m", text)
        ok(self.repo, "reconcile")
        return git(self.repo, "rev-parse", "HEAD").stdout.strip()

    def do(self, proposal: Proposal) -> list[str]:
        return [str(each) for each in proposal.do(NULL_REPORTER)]

    def look(self) -> None:
        self.manager._look(self.registry, self.app.id)

    def take(self) -> None:
        """Take the message of a thread that has done its part."""
        message = self.manager._queue.get(timeout=60)
        assert message is not None
        self.manager._try(self.registry, message)

    def take_all(self, condition: Callable[[], bool]) -> None:
        """Take messages, and tick, until the condition holds, and no message is left."""

        def reached() -> bool:
            try:
                while True:
                    message: Any = self.manager._queue.get_nowait()
                    self.manager._try(self.registry, message)
            except queue.Empty:
                self.manager._serving.tick(self.registry)
            return condition()

        until(reached)

    def deploy(self) -> Deployment:
        """Deploy what was pushed last, and wait until it runs."""
        self.look()
        self.take_all(lambda: self.running == [self.deployments[0].id] and not self.busy)
        return self.deployments[0]


@contextmanager
def apps_by_hand(path: Path, home: Path) -> Iterator[AppsByHand]:
    repo = repository(path / "shop")
    git(repo, "switch", "-q", "-c", "login")
    (repo / "server.py").write_text(SERVER)
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "a server")
    ok(repo, "init", "--no-hooks", "--name", "shop")
    ok(repo, "app", "run", *RUN)
    ok(repo, "app", "stop", "--branch", "main", "--yes")  # it has no server
    place = Home(str(home))
    said: list[str] = []
    with Registry.open(place) as registry:
        manager = AppManager(place, RouterAddress(), lambda _, text, **__: said.append(text), 10)
        found = AppsByHand(repo, place, registry, manager, said)
        try:
            yield found
        finally:
            manager._settled = True
            manager._context.stopping.set()
            manager.start()  # it ends at once: what is closed was started
            manager.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def kill(found: AppsByHand, deployment: Deployment) -> None:
    """Kill a deployment's process, with its supervisor, and wait until the system shows that."""
    service = found.item.running[deployment.id].service
    os.kill(service.pid, 9)
    assert service.ended(60)
