"""When an app's environment counts as changed, so that it starts again."""

from __future__ import annotations

from pathlib import Path

from support import commit, git, ok, shop

from provisioner.hosting.deployments.hosted_timeline import HostedTimeline, reach
from provisioner.hosting.deployments.starting import digest
from provisioner.registry.hosting import run_commands
from provisioner.registry.store import Registry
from provisioner.system.home import Home


def environment(home: Path) -> str:
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        (command,) = run_commands(registry)
        login = next(timeline for timeline in registry.timelines(app.id) if timeline.branch == b"login")
        return digest(reach(registry, HostedTimeline(app, login, command), deploying=True))


def test_a_push_does_not_change_it_and_variables_and_new_data_do(tmp_path: Path, home: Path) -> None:
    """A revision that fails to start leaves the one before, which keeps its requests."""
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "app", "run", "--command", "true")
    before = environment(home)
    git(repo, "switch", "-q", "login")
    commit(repo, "another")
    ok(repo, "reconcile")
    assert environment(home) == before
    ok(repo, "var", "set", "GREETING=ahoy")
    greeted = environment(home)
    assert greeted != before
    ok(repo, "database", "reset", "login", "--yes")
    assert environment(home) != greeted
