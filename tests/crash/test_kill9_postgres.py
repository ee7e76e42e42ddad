"""A kill -9 at any instant of what is done on a PostgreSQL server: nothing lost, and nothing left lying there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pg_server import PgServer
from pg_world import cleared, connected_to, environment, left, mark, marked, pg_shop
from support import add_branches, database_of, git, killed, numbers, ok, points, provisioner, rows, statuses

# What the same code does on another way is killed at each point in the long form only.
NIGHTLY = "KV_NIGHTLY" in os.environ
FORKING = ("fork.copied", "fork.moved", "postgres.copied", "postgres.owned")
BEFORE = (
    "replace.intended",
    "replace.built",
    "postgres.closed",
    "postgres.created",
    "postgres.copied",
    "postgres.owned",
    "postgres.role",
)


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    cleared(pg)
    repo = pg_shop(tmp_path / "shop", pg, "login")
    for branch in ("main", "login"):
        mark(repo, branch, branch)
    return repo


def kept(repo: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "--json"))
    return found


def expected(repo: Path) -> set[str]:
    """What is to be on the server: a database with its role for each that is not purged, and one for each snapshot."""
    found = rows(repo)
    names = live_names(repo, found)
    archived = {names[row["id"]].replace("pv_", "pva_") for row in found if row["status"] == "archived"}
    return {*names.values(), *archived}


def live_names(repo: Path, found: list[dict[str, Any]]) -> dict[str, str]:
    """Of these databases, by their ids, what they are called on the server while they are live."""
    (instance,) = json.loads(ok(repo, "instance", "list", "--json"))
    return {row["id"]: f"pv_{instance['id'][:8]}_{row['id'].replace('-', '')}" for row in found}


def nothing_else_is_left(repo: Path, pg: PgServer) -> None:
    ok(repo, "reconcile")
    there = left(pg)
    snapshots = {name for name in there if name.startswith("pvs_")}
    spares = {name for name in there if name.startswith(("pvx_", "pvb_"))}
    assert len(snapshots) == len(kept(repo))
    assert there - snapshots - spares == expected(repo)
    assert len({name[4:] for name in spares}) <= 2  # begun ones: the daemon drops them when it makes others


@pytest.mark.parametrize(
    "point",
    [*points("provision"), "postgres.role", "postgres.created"]
    if NIGHTLY
    else ["provision.written", "postgres.created"],
)
def test_while_provisioning(repo: Path, pg: PgServer, point: str) -> None:
    add_branches(repo, "one", "two", "three")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"connected"}
    assert [marked(repo, branch) for branch in ("main", "login", "one", "two", "three")] == [
        "main",
        "login",
        "",
        "",
        "",
    ]
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize(
    ("sessions", "point"),
    [
        *((False, point) for point in (FORKING if NIGHTLY else ("fork.moved", "postgres.copied"))),
        *((True, point) for point in (FORKING if NIGHTLY else ("postgres.created", "postgres.copied"))),
    ],
)
def test_while_forking(repo: Path, pg: PgServer, point: str, sessions: bool) -> None:
    ok(repo, "assign", "main", "shop", "--new-branch", "fork:production")
    add_branches(repo, "copy")
    if sessions:
        with connected_to(repo, "main"):
            killed(repo, point, "reconcile")
    else:
        killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert [marked(repo, branch) for branch in ("main", "login", "copy")] == ["main", "login", "main"]
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize(
    ("action", "point"),
    [
        *(("fork", point) for point in ("replace.built", "replace.kept")),
        ("restore", "replace.moved"),
        ("reset", "postgres.created"),
        *(
            (action, point)
            for action in (("fork", "reset", "restore") if NIGHTLY else ())
            for point in (*points("replace"), "postgres.copied", "postgres.owned")
        ),
    ],
)
def test_while_replacing(repo: Path, pg: PgServer, point: str, action: str) -> None:
    command: tuple[str, ...] = ("fork", "production", "login")
    held = "main"
    if action == "reset":
        command, held = ("reset", "login"), ""
        if point in ("postgres.copied", "postgres.owned"):
            point = "postgres.created"
    elif action == "restore":
        ok(repo, "database", "reset", "login", "--yes")
        mark(repo, "login", "since")
        command, held = ("restore", "login", kept(repo)[0]["id"]), "login"
    was, old = marked(repo, "login"), len(kept(repo))
    killed(repo, point, "database", *command, "--yes")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "connected"
    done = point not in BEFORE
    assert marked(repo, "login") == (held if done else was)
    assert len(kept(repo)) == old + done
    assert marked(repo, "main") == "main"
    if done:
        ok(repo, "database", "restore", "login", kept(repo)[0]["id"], "--yes")
        assert marked(repo, "login") == was
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize("point", points("archive", "recover") if NIGHTLY else ["archive.moved", "recover.moved"])
def test_while_a_database_goes_and_comes_back(repo: Path, pg: PgServer, point: str) -> None:
    die = {"PROVISIONER_FAULT": point}
    given = environment(repo, "login")
    git(repo, "branch", "-q", "-D", "login")
    ended = [provisioner(repo, "reconcile", add=die).returncode]
    git(repo, "branch", "-q", "login")
    ended.append(provisioner(repo, "reconcile", add=die).returncode)
    assert -signal.SIGKILL in ended
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "connected"
    assert marked(repo, "login") == "login"
    again = environment(repo, "login")  # with another password, if the branch was without the database in between
    assert {name: value.replace(again["PGPASSWORD"], "…") for name, value in again.items()} == {
        name: value.replace(given["PGPASSWORD"], "…") for name, value in given.items()
    }
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize("point", points("purge") if NIGHTLY else ["purge.moved"])
def test_while_purging(repo: Path, pg: PgServer, point: str) -> None:
    ok(repo, "database", "snapshot", "create", "login")
    ok(repo, "app", "set", "--retention", "0s")
    git(repo, "branch", "-q", "-D", "login")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}
    assert marked(repo, "main") == "main"
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize("point", points("snapshot") if NIGHTLY else ["snapshot.made", "snapshot.removed"])
def test_while_a_snapshot_is_made_and_deleted(repo: Path, pg: PgServer, point: str) -> None:
    there = int(point == "snapshot.recorded")
    if point in ("snapshot.deleting", "snapshot.removed"):
        ok(repo, "database", "snapshot", "create", "login")
        killed(repo, point, "database", "snapshot", "delete", kept(repo)[0]["id"], "--yes")
    else:
        killed(repo, point, "database", "snapshot", "create", "login")
    ok(repo, "reconcile")
    assert len(kept(repo)) == there
    assert marked(repo, "login") == "login"
    nothing_else_is_left(repo, pg)


@pytest.mark.parametrize("point", points("scrub") if NIGHTLY else ["scrub.ran"])
def test_while_a_copy_is_scrubbed(repo: Path, pg: PgServer, point: str) -> None:
    command = (
        "database",
        "fork",
        "production",
        "login",
        "--scrub",
        "psql -c \"update mark set text = 'clean'\"",
        "--yes",
    )
    killed(repo, point, *command)
    ok(repo, "reconcile")
    assert marked(repo, "login") == "login"
    nothing_else_is_left(repo, pg)
    ok(repo, *command)
    assert marked(repo, "login") == "clean"
    nothing_else_is_left(repo, pg)


@pytest.mark.timeout(300)
def test_at_random_instants(repo: Path, pg: PgServer) -> None:
    chance = numbers("instants")
    begun = time.monotonic()
    ok(repo, "database", "reset", "login", "--yes")
    takes = time.monotonic() - begun
    ended = []
    for turn in range(60):
        if not NIGHTLY and turn >= 4 and -signal.SIGKILL in ended:
            break
        was, old = marked(repo, "login"), len(kept(repo))
        held, *words = (("main", "fork", "production", "login"), ("", "reset", "login"))[turn % 2]
        started = subprocess.Popen(["provisioner", "database", *words, "--yes"], cwd=repo, stdout=subprocess.DEVNULL)
        try:
            ended.append(started.wait(chance.uniform(0.2, 0.9) * takes))
            takes *= 0.8  # it was slower than usual when that was measured
        except subprocess.TimeoutExpired:
            started.kill()
            ended.append(started.wait())
        ok(repo, "reconcile")
        done = len(kept(repo)) > old
        assert marked(repo, "login") == (held if done else was)
        assert statuses(repo)["git-branch/login"] == "connected"
    assert -signal.SIGKILL in ended
    assert database_of(repo, "production")["status"] == "connected"
    nothing_else_is_left(repo, pg)
