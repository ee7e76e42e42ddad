"""A timeline with a Deno KV and a PostgreSQL database: both are replaced, kept and archived together, or neither is."""

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
from pg_world import ask
from support import got, killed, numbers, ok, provisioner, put, repository, rows

Held = dict[tuple[str, str], str]

POINTS = ("replace.intended", "replace.built", "replace.built:2", "replace.ready", "replace.kept", "replace.recorded")
BEFORE = ("replace.intended", "replace.built")


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    """Each database holds its instance and its branch."""
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    ok(repo, "instance", "add", "sql", "--engine", "postgres", "--url", pg.url())
    ok(repo, "assign", "sql")
    for row in rows(repo):
        if row["path"]:
            put(row["path"], f"kv {branch(row)}")
        else:
            ask(repo, branch(row), f"create table mark (text text); insert into mark values ('sql {branch(row)}')")
    return repo


def branch(row: dict[str, Any]) -> str:
    return "main" if row["timeline"] == "production" else str(row["timeline"]).removeprefix("git-branch/")


def held(repo: Path) -> Held:
    found: Held = {}
    for row in rows(repo):
        if row["path"]:
            found[branch(row), "kv"] = got(row["path"])
        else:
            there = ask(repo, branch(row), "select to_regclass('mark') is not null")[0][0]
            found[branch(row), "sql"] = ask(repo, branch(row), "select text from mark")[0][0] if there else ""
    return found


AS_THEY_WERE = {(name, kind): f"{kind} {name}" for name in ("main", "login") for kind in ("kv", "sql")}
FORKED = AS_THEY_WERE | {("login", "kv"): "kv main", ("login", "sql"): "sql main"}


def snapshots(repo: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    return found


def test_both_are_forked_and_restored_together(repo: Path) -> None:
    ok(repo, "database", "fork", "production", "login", "--yes")
    assert held(repo) == FORKED
    ok(repo, "database", "restore", "login", snapshots(repo)[0]["id"], "--yes")
    assert held(repo) == AS_THEY_WERE
    ok(repo, "database", "reset", "login", "--instance", "sql", "--yes")
    assert held(repo) == AS_THEY_WERE | {("login", "sql"): ""}
    ok(repo, "kv", "set", "--branch", "login", '["a"]', "1")  # the only one that holds keys
    assert "1 added" in ok(repo, "database", "diff", "main", "login", "--stat")


def test_a_copy_that_is_refused_keeps_the_other_as_it_is(repo: Path) -> None:
    only_sql = 'test -z "$PGDATABASE"'  # so only the copy on the server is refused
    refused = provisioner(repo, "database", "fork", "production", "login", "--scrub", only_sql, "--yes")
    assert refused.returncode == 1
    assert held(repo) == AS_THEY_WERE
    assert snapshots(repo) == []


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_9_leaves_both_replaced_or_neither(repo: Path, point: str) -> None:
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    ok(repo, "reconcile")
    done = point.partition(":")[0] not in BEFORE
    assert held(repo) == (FORKED if done else AS_THEY_WERE)
    assert len(snapshots(repo)) == (2 if done else 0)


@pytest.mark.timeout(300)
def test_both_are_killed_at_random_instants(repo: Path) -> None:
    chance = numbers("both engines")
    begun = time.monotonic()
    ok(repo, "database", "fork", "production", "login", "--yes")
    takes = time.monotonic() - begun
    ok(repo, "database", "restore", "login", snapshots(repo)[0]["id"], "--yes")
    codes = []
    for _ in range(40 if "KV_NIGHTLY" in os.environ else 5):
        words = ["provisioner", "database", "fork", "production", "login", "--yes"]
        started = subprocess.Popen(words, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            codes.append(started.wait(chance.uniform(0.2, 0.9) * takes))
            takes *= 0.8  # it was slower than usual when that was measured
        except subprocess.TimeoutExpired:
            started.kill()
            codes.append(started.wait())
        ok(repo, "reconcile")
        assert held(repo) in (FORKED, AS_THEY_WERE)
        if held(repo) == FORKED:
            ok(repo, "database", "restore", "login", snapshots(repo)[0]["id"], "--yes")
            assert held(repo) == AS_THEY_WERE
    assert -signal.SIGKILL in codes
