"""A kill -9 at every point where Deno KV databases on a server are made, forked and archived: one reconcile mends it."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from kv_instance_world import kv_shop, mark, serving
from pg_server import PgServer
from pg_world import cleared
from support import add_branches, database_of, git, killed, ok, points, provisioner, rows, statuses
from test_kill9_postgres import live_names, nothing_else_is_left

NIGHTLY = "KV_NIGHTLY" in os.environ
ALL_MADE = (*points("provision"), "postgres.role", "postgres.created")
MADE = ALL_MADE if NIGHTLY else ("provision.written", "provision.renamed", "postgres.role", "postgres.created")
ALL_FORKED = (
    "fork.copied",
    "fork.moved",
    "postgres.copied",
    "postgres.owned",
    "provision.intended",
    "provision.recorded",
)
FORKED = ALL_FORKED if NIGHTLY else ("fork.moved", "postgres.copied")
GONE = points("archive", "recover") if NIGHTLY else ["archive.moved", "recover.moved"]


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    """What is on a branch is its name. No server of ours keeps a connection."""
    cleared(pg)
    repo = kv_shop(tmp_path / "shop", pg, "login")
    with serving():
        for branch in ("main", "login"):
            mark(repo, branch, branch)
    return repo


def held(repo: Path, pg: PgServer) -> dict[str, tuple[str, str]]:
    """The status of each timeline's database and what `mark` has left there, looked up behind all servers of ours."""
    found = rows(repo)
    names = live_names(repo, found)
    values = {row["id"]: pg.ask("select v from deno_kv.kv", database=names[row["id"]]) for row in found}
    return {  # as V8 writes a short text
        row["timeline"]: (row["status"], "".join(value[4:].decode() for (value,) in values[row["id"]])) for row in found
    }


BEFORE = {"production": ("connected", "main"), "git-branch/login": ("connected", "login")}


def test_while_they_are_made(repo: Path, pg: PgServer) -> None:
    expected = dict(BEFORE)
    for number, point in enumerate(MADE, 1):
        add_branches(repo, f"b{number}", f"c{number}")
        expected |= {f"git-branch/{name}{number}": ("connected", "") for name in "bc"}
        killed(repo, point, "reconcile")
        nothing_else_is_left(repo, pg)
        assert held(repo, pg) == expected


@pytest.mark.parametrize("busy", [False, True] if NIGHTLY else [False])
def test_while_they_are_forked(repo: Path, pg: PgServer, busy: bool) -> None:
    ok(repo, "assign", "keys", "shop", "--new-branch", "fork:production")
    expected = dict(BEFORE)
    main = live_names(repo, rows(repo))[database_of(repo, "production")["id"]]
    for number, point in enumerate(FORKED, 1):
        add_branches(repo, f"f{number}")
        expected[f"git-branch/f{number}"] = ("connected", "main")
        with pg.connect(main) if busy else nullcontext():
            killed(repo, point, "reconcile")
        nothing_else_is_left(repo, pg)
        assert held(repo, pg) == expected


def test_while_they_are_archived_and_come_back(repo: Path, pg: PgServer) -> None:
    for point in GONE:
        die = {"PROVISIONER_FAULT": point}
        git(repo, "branch", "-q", "-D", "login")
        ended = [provisioner(repo, "reconcile", add=die).returncode]
        if ended != [0]:
            nothing_else_is_left(repo, pg)
            assert statuses(repo)["git-branch/login"] == "archived"
        git(repo, "branch", "-q", "login")
        ended.append(provisioner(repo, "reconcile", add=die).returncode)
        assert -signal.SIGKILL in ended
        nothing_else_is_left(repo, pg)
        assert held(repo, pg) == BEFORE
