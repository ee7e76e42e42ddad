"""A kill -9 at any instant of a fork, a reset, a restore or a snapshot: nothing lost, nothing half there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kv_files import integrity
from support import database_of, git, got, ok, provisioner, put, rows, statuses
from test_kill9 import _points, killed, marked_shop

BEFORE = ("replace.intended", "replace.built")
ACTIONS = ("fork", "reset", "restore")


def kept(repo: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    return found


def leftovers(home: Path) -> list[str]:
    return [path.name for stage in ("new/*", "trash") for path in home.glob(f"instances/*/{stage}/*")]


@pytest.mark.parametrize("point", _points("replace"))
@pytest.mark.parametrize("action", ACTIONS)
def test_while_replacing(tmp_path: Path, home: Path, point: str, action: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    command: tuple[str, ...] = ("fork", "production", "login")
    held = "production"
    if action == "reset":
        command, held = ("reset", "login"), ""
    elif action == "restore":
        ok(repo, "database", "reset", "login", "--yes")
        put(database_of(repo, "git-branch/login")["path"], "since")
        command, held = ("restore", "login", kept(repo)[0]["id"]), "git-branch/login"
    before = database_of(repo, "git-branch/login")
    was, old = got(before["path"]), len(kept(repo))
    killed(repo, point, "database", *command, "--yes")
    ok(repo, "reconcile")
    after = database_of(repo, "git-branch/login")
    assert (after["id"], after["status"]) == (before["id"], "connected")
    assert (after["path"] == before["path"]) == (point in BEFORE)
    assert got(after["path"]) == (was if point in BEFORE else held)
    assert integrity(Path(after["path"])) == "ok"
    assert leftovers(home) == []
    assert got(database_of(repo, "production")["path"]) == "production"
    if point in BEFORE:
        assert len(kept(repo)) == old
        ok(repo, "database", *command, "--yes")
        assert got(database_of(repo, "git-branch/login")["path"]) == held
    newest = kept(repo)[0]
    assert (newest["cause"], len(kept(repo))) == (action, old + 1)
    ok(repo, "database", "restore", "login", newest["id"], "--yes")
    assert got(database_of(repo, "git-branch/login")["path"]) == was


@pytest.mark.parametrize("point", ["replace.ready", "replace.kept"])
def test_nobody_is_connected_to_what_is_half_replaced(tmp_path: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    shown = provisioner(repo, "exec", "--branch", "login", "--", "printenv", "DENO_KV_DEFAULT_PATH")
    assert got(shown.stdout.rstrip("\n")) == "production"  # exec has finished it


@pytest.mark.parametrize("point", _points("replace"))
def test_a_branch_that_is_deleted_when_its_fork_was_cut_off(tmp_path: Path, home: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "archived"
    held = got(database_of(repo, "git-branch/login")["path"])
    assert held == ("git-branch/login" if point in BEFORE else "production")
    assert leftovers(home) == []


@pytest.mark.parametrize("point", _points("snapshot"))
def test_while_a_snapshot_is_made_and_deleted(tmp_path: Path, home: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    if point in ("snapshot.deleting", "snapshot.removed"):
        ok(repo, "database", "snapshot", "create", "login")
        killed(repo, point, "database", "snapshot", "delete", kept(repo)[0]["id"], "--yes")
        there = 0
    else:
        killed(repo, point, "database", "snapshot", "create", "login")
        there = int(point == "snapshot.recorded")
    ok(repo, "reconcile")
    assert len(kept(repo)) == there
    assert len(list(home.glob("instances/*/snapshots/*/*"))) == there
    assert leftovers(home) == []
    assert {row["timeline"]: got(row["path"]) for row in rows(repo)} == {
        "production": "production",
        "git-branch/login": "git-branch/login",
    }
