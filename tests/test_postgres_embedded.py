"""A PostgreSQL server of the home's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pg_world import environment, mark, marked
from support import add_branches, ok, provisioner, repository, statuses, until


@pytest.fixture
def repo(tmp_path: Path, home: Path) -> Iterator[Path]:
    repository(tmp_path / "shop", "login")
    repo = tmp_path / "shop"
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    yield repo
    provisioner(repo, "instance", "stop", "main")
    shutil.rmtree(data(home).parent, ignore_errors=True)


def data(home: Path) -> Path:
    directory = home / "instances/main"
    elsewhere = directory / "elsewhere"
    return (Path(elsewhere.read_text()) if elsewhere.exists() else directory) / "data"


def pid(home: Path) -> int:
    return int((data(home) / "postmaster.pid").read_text().split()[0])


def test_branches_have_databases_on_it_and_it_comes_back(repo: Path, home: Path) -> None:
    for branch in ("main", "login"):
        mark(repo, branch, branch)
    given = environment(repo, "login")
    assert given["PGHOST"] == "127.0.0.1"
    first = pid(home)
    assert ok(repo, "instance", "stop", "main") == "instance main has stopped\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(given["DATABASE_URL"])
    told = ok(repo, "exec", "--branch", "login", "--", "psql", "-Atc", "select text from mark")
    assert told == "login\n"  # who needs it starts it, and it stays
    assert environment(repo, "login") == given
    assert pid(home) != first
    os.kill(pid(home), signal.SIGKILL)
    until(lambda: not reaches(given["DATABASE_URL"]))
    add_branches(repo, "later")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/later"] == "connected"
    assert marked(repo, "login") == "login"
    ok(repo, "instance", "test", "main")
    checks = json.loads(ok(repo, "instance", "test", "main", "--json"))
    assert {check["check"] for check in checks} >= {"isolation", "confinement", "database"}


def reaches(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_it_is_nobody_elses(repo: Path, home: Path) -> None:
    for path in (home, home / "instances/main", data(home)):
        assert path.stat().st_mode & 0o077 == 0
    for name in ("password", "port"):
        assert (home / "instances/main" / name).stat().st_mode & 0o077 == 0
    own = environment(repo, "login")["DATABASE_URL"]
    for name in ("postgres", "template1", environment(repo, "main")["PGDATABASE"]):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(own, dbname=name)
