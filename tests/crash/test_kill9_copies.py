"""A kill -9 at any instant of a fork, a reset, a restore or a snapshot: nothing lost, nothing half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from kv_files import integrity
from support import database_of, git, got, killed, marked_shop, numbers, ok, points, provisioner, put, rows, statuses

BEFORE = ("replace.intended", "replace.built")
ACTIONS = ("fork", "reset", "restore")


def kept(repo: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    return found


def leftovers(home: Path) -> list[str]:
    return [path.name for stage in ("new/*", "trash") for path in home.glob(f"instances/*/{stage}/*")]


@pytest.mark.parametrize("point", points("replace"))
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


@pytest.mark.parametrize("point", points("replace"))
def test_who_replaces_it_next_need_not_wait_for_a_reconcile(tmp_path: Path, home: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    ok(repo, "database", "reset", "login", "--yes")
    after = database_of(repo, "git-branch/login")
    assert (after["status"], got(after["path"]), leftovers(home)) == ("connected", "", [])
    assert [item["cause"] for item in kept(repo)] == (["reset"] if point in BEFORE else ["reset", "fork"])


@pytest.mark.parametrize("point", points("replace"))
def test_a_branch_that_is_deleted_when_its_fork_was_cut_off(tmp_path: Path, home: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "archived"
    held = got(database_of(repo, "git-branch/login")["path"])
    assert held == ("git-branch/login" if point in BEFORE else "production")
    assert leftovers(home) == []


@pytest.mark.parametrize("point", points("snapshot"))
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


@pytest.fixture
def replaced(tmp_path: Path) -> Path:
    """A branch whose database has snapshots of both forms, and is itself one that took the place of another."""
    repo = marked_shop(tmp_path / "shop", "login")
    for _ in range(2):
        ok(repo, "database", "fork", "production", "login", "--yes")
    ok(repo, "database", "snapshot", "create", "login")
    put(database_of(repo, "git-branch/login")["path"], "since", key=b"second")
    return repo


def second(repo: Path) -> str:
    return got(database_of(repo, "git-branch/login")["path"], key=b"second")


@pytest.mark.parametrize("point", points("archive", "recover"))
def test_what_was_replaced_goes_and_comes_back(replaced: Path, point: str) -> None:
    git(replaced, "branch", "-q", "-D", "login")
    if point in points("archive"):
        killed(replaced, point, "reconcile")
        ok(replaced, "reconcile")
        assert statuses(replaced)["git-branch/login"] == "archived"
        assert second(replaced) == "since"
        git(replaced, "branch", "-q", "login")
    else:
        ok(replaced, "reconcile")
        git(replaced, "branch", "-q", "login")
        killed(replaced, point, "reconcile")
    ok(replaced, "reconcile")
    assert statuses(replaced)["git-branch/login"] == "connected"
    assert second(replaced) == "since"
    for snapshot, held in zip(kept(replaced), ("production", "production", "git-branch/login"), strict=True):
        ok(replaced, "database", "restore", "login", snapshot["id"], "--yes")
        path = database_of(replaced, "git-branch/login")["path"]
        assert (got(path), second(replaced), integrity(Path(path))) == (held, "", "ok")


@pytest.mark.parametrize("point", points("purge"))
def test_what_was_replaced_is_purged_with_its_snapshots(replaced: Path, home: Path, point: str) -> None:
    identity = database_of(replaced, "git-branch/login")["id"]
    ok(replaced, "app", "set", "--retention", "0s")
    git(replaced, "branch", "-q", "-D", "login")
    killed(replaced, point, "reconcile")
    ok(replaced, "reconcile")
    assert statuses(replaced) == {"production": "connected"}
    assert list(home.glob(f"instances/*/**/{identity}")) == []
    assert leftovers(home) == []
    assert json.loads(ok(replaced, "database", "snapshot", "list", "--json")) == []
    assert got(database_of(replaced, "production")["path"]) == "production"


@pytest.mark.parametrize("point", ["snapshot.deleting", "snapshot.removed"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["a copy", "one that took a place", "a plain one"])
def test_while_a_snapshot_of_each_form_is_deleted(replaced: Path, home: Path, point: str, which: int) -> None:
    before = kept(replaced)
    killed(replaced, point, "database", "snapshot", "delete", before[which]["id"], "--yes")
    ok(replaced, "reconcile")
    assert [item["id"] for item in kept(replaced)] == [item["id"] for item in before if item is not before[which]]
    assert len(list(home.glob("instances/*/snapshots/*/*"))) == 2
    assert leftovers(home) == []
    assert second(replaced) == "since"


@pytest.mark.timeout(300)
def test_replacing_is_killed_at_random_instants(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    chance = numbers("copies")
    begun = time.monotonic()
    ok(repo, "database", "reset", "login", "--yes")
    takes = time.monotonic() - begun
    old = kept(repo)
    ended = []
    for turn in range(60 if "KV_NIGHTLY" in os.environ else 8):
        path = database_of(repo, "git-branch/login")["path"]
        was = got(path)
        held, *words = (("production", "fork", "production", "login"), ("", "reset", "login"))[turn % 2]
        started = subprocess.Popen(["provisioner", "database", *words, "--yes"], cwd=repo, stdout=subprocess.DEVNULL)
        try:
            ended.append(started.wait(chance.uniform(0.2, 0.9) * takes))
            takes *= 0.8  # it was slower than usual when that was measured
        except subprocess.TimeoutExpired:
            started.kill()
            ended.append(started.wait())
        ok(repo, "reconcile")
        after = database_of(repo, "git-branch/login")
        done = after["path"] != path
        assert (after["status"], got(after["path"])) == ("connected", held if done else was)
        assert integrity(Path(after["path"])) == "ok"
        assert len(kept(repo)) == len(old) + done
        assert leftovers(home) == []
        if done:
            ok(repo, "database", "restore", "login", kept(repo)[0]["id"], "--yes")
            assert got(database_of(repo, "git-branch/login")["path"]) == was
        old = kept(repo)
    assert -signal.SIGKILL in ended
