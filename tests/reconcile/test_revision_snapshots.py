"""The data as it was at a commit."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import commit, database_of, events, git, killed, ok, outside, provisioner, shop, small_disk
from test_pre_deploy import head

from provisioner.core.clock import now_ms
from provisioner.reconcile.changes.revision_snapshots import keep
from provisioner.registry.store import Registry
from provisioner.system.home import Home


def snapshots(repo: Path, name: str = "main") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", name, "--json"))
    return found


def change(repo: Path, text: str) -> None:
    """A program writes, which is the state at the commit that is pushed then."""
    path = database_of(repo, "production")["path"]
    ok(repo, "kv", "set", "--branch", "main", '["state"]', json.dumps(text))
    assert path


def state(repo: Path) -> str:
    return ok(repo, "kv", "get", "--branch", "main", '["state"]').strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def test_the_data_at_the_last_revisions_is_kept_and_can_be_gone_back_to(repo: Path, home: Path) -> None:
    ok(repo, "app", "set", "--snapshot-revisions", "2")
    revisions = []
    for number in range(4):
        change(repo, f"at {number}")
        revisions.append(head(repo))
        commit(repo, f"revision {number}")
        ok(repo, "reconcile")
    assert [(item["cause"], item["revision"]) for item in snapshots(repo)] == [
        ("revision", revisions[3]),
        ("revision", revisions[2]),
    ]
    assert snapshots(repo, "login") == []
    ok(repo, "database", "restore", "main", "--revision", revisions[2][:9], "--yes")
    assert "at 2" in state(repo)
    assert snapshots(repo)[0]["cause"] == "restore"
    gone = provisioner(repo, "database", "restore", "main", "--revision", revisions[0], "--yes")
    assert gone.returncode == 3
    assert revisions[3][:12] in gone.stderr
    assert provisioner(repo, "database", "restore", "main", "--yes").returncode == 2
    assert set(events(home, "database.snapshot-delete")) == {"superseded"}


def test_it_is_kept_before_the_new_revision_is_known_and_before_its_pre_deploy_command(
    repo: Path, tmp_path: Path
) -> None:
    git(repo, "branch", "-q", "-D", "login")
    there = outside(tmp_path)
    ok(repo, "app", "set", "--pre-deploy-copies", "always", "--allow-write", there)
    ok(repo, "app", "set", "--snapshot-revisions", "3", "--pre-deploy", f"echo >>{there}/ran")
    change(repo, "old")
    first = head(repo)
    commit(repo, "second")
    killed(repo, "snapshot.made", "reconcile")
    ok(repo, "reconcile")
    (kept,) = [item for item in snapshots(repo) if item["cause"] == "revision"]
    assert kept["revision"] == first
    assert [item["cause"] for item in snapshots(repo)] == ["pre-deploy", "revision", "pre-deploy"]


def test_a_full_disk_does_not_hold_a_timeline_back(tmp_path: Path, home: Path) -> None:
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        repo = shop(tmp_path / "shop")
        ok(repo, "instance", "add", "small", "--directory", disk / "small")
        ok(repo, "assign", "small")
        ok(repo, "app", "set", "--snapshot-revisions", "2")
        with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        commit(repo, "second")
        ok(repo, "reconcile")
        assert json.loads(ok(repo, "timeline", "show", "main", "--json"))["revision"] == head(repo)
        assert events(home, "database.snapshot-failed") == ["revision"]


def test_nothing_is_kept_of_a_revision_that_somebody_else_has_moved_a_timeline_on_from(repo: Path, home: Path) -> None:
    ok(repo, "app", "set", "--snapshot-revisions", "2")
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        (timeline,) = (item for item in registry.timelines(app.id) if item.production)
        keep(registry, app, [(timeline.id, "0" * 40)], now_ms())
        assert snapshots(repo) == []
        keep(registry, app, [(timeline.id, timeline.revision)], now_ms())
    assert [item["revision"] for item in snapshots(repo)] == [head(repo)]
