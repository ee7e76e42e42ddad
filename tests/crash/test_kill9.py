"""A kill -9 at any instant loses nothing that was acknowledged, and the next reconcile makes everything right."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from support import (
    add_branches,
    branches,
    database_of,
    git,
    got,
    killed,
    marked_shop,
    numbers,
    ok,
    points,
    provisioner,
    repository,
    rows,
    statuses,
)

import provisioner as provisioner_package
from provisioner.system import inbox
from provisioner.system.failpoints import POINTS


def test_every_point_is_tried() -> None:
    here = points("provision", "archive", "recover", "purge", "rename", "migrate", "inbox")
    elsewhere = points(
        *("hook", "hosting", "registry", "rotate", "revoke"),
        *("fork", "replace", "snapshot", "delete", "undelete", "run", "scrub", "deploy", "postgres", "follow", "move"),
    )
    assert {*here, *elsewhere} == set(POINTS)


def test_what_the_code_passes_is_a_point_that_can_be_armed() -> None:
    code = "".join(path.read_text() for path in Path(provisioner_package.__file__).parent.rglob("*.py"))
    passed = {
        name for call in re.findall(r"failpoints\.point\((.*)\)", code) for name in re.findall(r'"([a-z.-]+)"', call)
    }
    assert passed - {"live"} <= set(POINTS)
    assert len(passed) > 50


@pytest.mark.parametrize("point", points("provision"))
@pytest.mark.parametrize("count", [1, 12])
def test_while_provisioning(tmp_path: Path, point: str, count: int) -> None:
    repo = marked_shop(tmp_path / "shop")
    add_branches(repo, *(f"b{number}" for number in range(count)))
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"connected"}
    assert len(rows(repo)) == count + 1
    for row in rows(repo):
        assert got(row["path"]) == ("production" if row["timeline"] == "production" else "")


@pytest.mark.parametrize("point", points("provision"))
def test_while_initialising(tmp_path: Path, point: str) -> None:
    repo = repository(tmp_path / "shop", "login")
    killed(repo, point, "init", "--no-hooks", "--name", "shop")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected", "git-branch/login": "connected"}


@pytest.mark.parametrize("point", points("migrate"))
def test_while_making_the_registry(tmp_path: Path, point: str) -> None:
    repo = repository(tmp_path / "shop", "login")
    killed(repo, point, "init", "--no-hooks", "--name", "shop")
    ok(repo, "init", "--no-hooks", "--name", "shop")
    assert statuses(repo) == {"production": "connected", "git-branch/login": "connected"}


@pytest.mark.parametrize("point", points("archive"))
def test_while_archiving(tmp_path: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login", "cart")
    git(repo, "branch", "-q", "-D", "login", "cart")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert statuses(repo) == {
        "production": "connected",
        "git-branch/cart": "archived",
        "git-branch/login": "archived",
    }
    assert {got(row["path"]) for row in rows(repo)} == {"production", "git-branch/cart", "git-branch/login"}


@pytest.mark.parametrize("point", points("archive", "recover"))
@pytest.mark.parametrize("by_hand", [False, True], ids=["its branch comes back", "by hand"])
def test_while_a_database_goes_and_comes_back(tmp_path: Path, point: str, by_hand: bool) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    name = database_of(repo, "git-branch/login")["name"]
    die = {"PROVISIONER_FAULT": point}
    git(repo, "branch", "-q", "-D", "login")
    ended = [provisioner(repo, "reconcile", add=die).returncode]
    if by_hand:
        ended.append(provisioner(repo, "database", "recover", name, add=die).returncode)
    else:
        git(repo, "branch", "-q", "login")
        ended.append(provisioner(repo, "reconcile", add=die).returncode)
    assert -signal.SIGKILL in ended
    ok(repo, "reconcile")
    found = database_of(repo, "git-branch/login")
    assert found["status"] == "connected"
    assert got(found["path"]) == "git-branch/login"


@pytest.mark.parametrize("point", points("purge"))
def test_while_purging(tmp_path: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login", options=("--grace", "0s", "--retention", "0s"))
    instance = Path(database_of(repo, "production")["path"]).parent.parent.parent
    git(repo, "branch", "-q", "-D", "login")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}
    assert got(database_of(repo, "production")["path"]) == "production"
    assert {path.relative_to(instance).parts[0] for path in instance.rglob("kv.sqlite3")} == {"live"}
    assert len(list((instance / "owners").iterdir())) == 1


@pytest.mark.parametrize("point", points("rename"))
def test_while_following_a_rename(tmp_path: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    git(repo, "branch", "-q", "-m", "login", "sign-in")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    live = {row["timeline"]: row for row in rows(repo) if row["status"] == "connected"}
    assert set(live) == {"production", "git-branch/sign-in"}
    assert got(live["git-branch/sign-in"]["path"]) == "git-branch/login"


@pytest.mark.parametrize("point", points("inbox"))
def test_while_taking_a_wake_up(tmp_path: Path, home: Path, point: str) -> None:
    repo = marked_shop(tmp_path / "shop")
    app_id = json.loads(ok(repo, "app", "show", "--json"))["id"]
    add_branches(repo, "login")
    inbox.leave(str(home / "inbox"), app_id)
    killed(repo, point, "watch")
    assert inbox.take(str(home / "inbox")) == [app_id]
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected", "git-branch/login": "connected"}


@pytest.mark.timeout(120)
def test_at_random_instants(tmp_path: Path) -> None:
    """300 branches come and others go while reconciling is killed again and again."""
    repo = marked_shop(tmp_path / "shop", *(f"old-{number}" for number in range(5)))
    add_branches(repo, *(f"b{number}" for number in range(300)))
    git(repo, "branch", "-q", "-D", "old-0", "old-1")
    chance = numbers("instants")
    for _ in range(8):
        started = subprocess.Popen(["provisioner", "reconcile"], cwd=repo, stderr=subprocess.DEVNULL)
        try:
            started.wait(chance.uniform(0.1, 0.9))
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
    ok(repo, "reconcile")
    found = statuses(repo)
    wanted = {"production", *(f"git-branch/{branch}" for branch in branches(repo) - {"main"})}
    assert {timeline for timeline, status in found.items() if status == "connected"} == wanted
    assert {timeline for timeline, status in found.items() if status != "connected"} == {
        "git-branch/old-0",
        "git-branch/old-1",
    }
    for row in rows(repo):
        old = row["timeline"] == "production" or row["timeline"].startswith("git-branch/old-")
        assert got(row["path"]) == (row["timeline"] if old else "")
