"""A PostgreSQL server of the home's own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer
from pg_world import environment, mark, marked
from support import add_branches, ok, provisioner, repository, statuses, until


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repository(tmp_path / "shop", "login")
    repo = tmp_path / "shop"
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    return repo


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
    assert ok(repo, "instance", "stop", "main") == "Stopped instance main\n"
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


def test_no_other_server_is_taken_for_it(repo: Path, home: Path, pg: PgServer) -> None:
    mark(repo, "login", "here")
    ok(repo, "instance", "stop", "main")
    assert pg.process is not None
    stale = data(home) / "postmaster.pid"  # as a crash leaves it, whose number another server has by now
    stale.write_text(f"{pg.process.pid}\n{data(home)}\n")
    port = home / "instances/main/port"
    before = port.read_text()
    port.write_text(str(pg.port))
    assert ok(repo, "instance", "stop", "main") == "Instance main was not running\n"
    assert pg.answers()
    port.write_text(before)
    assert marked(repo, "login") == "here"
    assert pid(home) != pg.process.pid


def test_it_is_nobody_elses(repo: Path, home: Path) -> None:
    for path in (home, home / "instances/main", data(home)):
        assert path.stat().st_mode & 0o077 == 0
    for name in ("password", "port"):
        assert (home / "instances/main" / name).stat().st_mode & 0o077 == 0
    own = environment(repo, "login")["DATABASE_URL"]
    for name in ("postgres", "template1", environment(repo, "main")["PGDATABASE"]):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(own, dbname=name)


@pytest.mark.parametrize("gone", ["its directory", "its files"])
def test_an_empty_one_never_takes_its_place(repo: Path, home: Path, gone: str) -> None:
    mark(repo, "login", "here")
    ok(repo, "instance", "stop", "main")
    there = home / "instances/main" if gone == "its directory" else data(home)
    aside = there.with_name("unmounted")
    there.rename(aside)
    for words in (("instance", "test", "main"), ("doctor",), ("exec", "--branch", "login", "--", "true"), ("status",)):
        done = provisioner(repo, *words)
        assert words == ("status",) or done.returncode in (1, 3)
        assert (
            words == ("status",) or "not there" in done.stdout + done.stderr or "missing" in done.stdout + done.stderr
        )
    assert provisioner(repo, "reconcile").returncode == 1
    assert not there.exists()
    aside.rename(there)
    ok(repo, "database", "fix", "--all")
    assert marked(repo, "login") == "here"


def test_it_goes_with_its_instance_when_that_can_come_back_no_more(repo: Path, home: Path) -> None:
    files, directory = data(home), home / "instances/main"
    url = environment(repo, "login")["DATABASE_URL"]
    (directory / "not ours").write_text("stays")
    mark(repo, "login", "login")
    ok(repo, "app", "set", "--retention", "3s")
    ok(repo, "instance", "delete", "main", "--yes")
    ok(repo, "reconcile")
    if "main" in ok(repo, "instance", "list", "--deleted"):
        assert files.exists()
    until(lambda: ok(repo, "instance", "list", "--deleted") == "")
    ok(repo, "reconcile")
    assert not files.exists()
    assert [path.name for path in directory.iterdir()] == ["not ours"]
    assert not reaches(url)
    assert any((home / "backups").iterdir())
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "assign", "main", "shop")
    assert marked(repo, "login") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers lie outside of their homes")
def test_what_a_home_that_is_gone_has_left_is_said_and_no_other(repo: Path, home: Path) -> None:
    elsewhere = str(data(home).parent)
    assert elsewhere not in provisioner(repo, "doctor").stdout
    owner = Path(elsewhere, "home")
    owner.write_text("/gone/instances/main")
    assert f"{elsewhere} has the files of a server of /gone/instances/main" in provisioner(repo, "doctor").stdout
    owner.write_text(str(home / "instances/main"))
    assert elsewhere not in provisioner(repo, "doctor").stdout


def test_init_with_the_engine_adds_an_instance_and_starts_its_server(tmp_path: Path) -> None:
    repo = repository(tmp_path / "api", "login")
    assert "2 databases on postgres (postgres) are ready" in ok(repo, "init", "--no-hooks", "--engine", "postgres")
    assert environment(repo, "login")["DATABASE_URL"]
