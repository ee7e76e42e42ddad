"""A look at an app: the failure of one timeline's step keeps no other timeline from its turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import add_branches, ok, repository

from provisioner.hosting.apps.manager import AppManager
from provisioner.hosting.deployments.due import Wanted
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.router_address import address


def test_a_timeline_whose_step_fails_holds_up_no_other(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "init", "--no-hooks")
    ok(repo, "app", "run", "--command", "exec python3 server.py")
    add_branches(repo, "one", "two")
    ok(repo, "reconcile")
    said: list[str] = []
    here = Home(str(home))
    manager = AppManager(here, address(here), lambda *words: said.append(" ".join(words)), 10)
    taken: list[bytes] = []

    def fails_for_production(_: Registry, found: Wanted) -> None:
        taken.append(found.hosted.timeline.name)
        if found.hosted.timeline.production:
            raise ValueError("not a number")

    monkeypatch.setattr(manager._deploying, "advance", fails_for_production)
    with Registry.open(here) as registry:
        (app,) = registry.apps()
        manager._look(registry, app.id)
    assert sorted(taken) == [b"git-branch/one", b"git-branch/two", b"production"]
    assert [words for words in said if "not a number" in words]
