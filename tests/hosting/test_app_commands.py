"""What a user's commands of a timeline's app record for the daemon, without one that runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import commit, events, git, ok, provisioner, repository

from provisioner.core.hosting import AppState
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@pytest.fixture
def shop(tmp_path: Path, home: Path) -> Path:
    repo = repository(tmp_path / "shop")
    ok(repo, "init", "--no-hooks")
    ok(repo, "app", "run", "--command", "exec python3 server.py", "--idle", "1h")
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    return repo


def states(home: Path) -> dict[str, AppState]:
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        return {state.label: state.state for state in hosting.all_hosted(registry, app.id)}


def test_stopping_production_is_asked_back_and_a_branch_is_not(shop: Path, home: Path) -> None:
    refused = provisioner(shop, "app", "stop", "--branch", "main")
    assert refused.returncode != 0
    assert "Stop the production app of shop?" in refused.stderr
    assert AppState.STOPPED not in states(home).values()
    assert "Stopping the app of production: http://shop.localhost:" in ok(shop, "app", "stop", "--branch", "main", "-y")
    assert "Stopping the app of git-branch/login" in ok(shop, "app", "stop", "--branch", "login")
    assert states(home) == {"": AppState.STOPPED, "login": AppState.STOPPED}
    ok(shop, "app", "start", "--branch", "login")
    assert states(home)["login"] is AppState.STARTING
    assert events(home, "app.stop") == ["user"] * 2


def test_a_lock_is_recorded_said_and_ended(shop: Path, home: Path) -> None:
    first = git(shop, "rev-parse", "main").stdout.strip()
    commit(shop, "second")
    assert f"Locked the app of production to {first[:12]}" in ok(shop, "app", "lock", first, "--branch", "main")
    assert "follows its branch again" in ok(shop, "app", "unlock", "--branch", "main")
    assert "is not locked" in provisioner(shop, "app", "unlock", "--branch", "main").stderr
    assert "was healthy yet" in provisioner(shop, "app", "rollback", "--branch", "login").stderr
    document = json.loads(ok(shop, "app", "redeploy", "--branch", "login", "--json"))
    assert (document["timeline"], document["state"]) == ("git-branch/login", "starting")
