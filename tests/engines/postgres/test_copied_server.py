"""An embedded PostgreSQL server whose home was copied, moved or restored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from home_world import at, copy, photograph
from pg_server import PgServer
from pg_world import environment, mark, marked
from support import add_branches, git, ok, provisioner, repository, rows, statuses

from provisioner.engines.postgres.embedded import copied as copied_server
from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.protocol import location


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    for branch in ("main", "login"):
        mark(repo, branch, branch)
    return repo


@pytest.fixture
def copied(repo: Path, home: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the home, made while its server rests."""
    ok(repo, "instance", "stop", "main")
    copied = copy(home, tmp_path / "copy")
    yield copied
    embedded.remove(str(copied / "instances/main"))


def _files(home: Path) -> Path:
    return Path(location.data_of(str(home / "instances/main"))).parent


def _given(home: Path, cwd: Path) -> dict[str, str]:
    with at(home):
        words = ("env", "--app", "shop", "--branch", "login", "--format", "json")
        given: dict[str, str] = json.loads(ok(cwd, *words))
    return given


def test_a_copy_gets_a_server_of_its_own(repo: Path, home: Path, copied: Path, tmp_path: Path) -> None:
    before = photograph(home, _files(home))
    with at(copied):
        assert provisioner(repo, "instance", "start", "main").returncode == 3
        ok(repo, "home", "adopt", "--copied")
        assert _files(copied) != _files(home)
        assert photograph(home, _files(home)) == before
        theirs = _given(copied, tmp_path)
        with psycopg.connect(theirs["DATABASE_URL"]) as connection:
            assert connection.execute("select text from mark").fetchall() == [("login",)]
            connection.execute("update mark set text = 'the copy''s'")
        assert photograph(home, _files(home)) == before
    ours = _given(home, tmp_path)
    assert ours["PGPORT"] != theirs["PGPORT"]
    assert ours["PGPASSWORD"] != theirs["PGPASSWORD"]
    assert marked(repo, "login") == "login"
    passwords = {(each / "instances/main/password").read_text() for each in (home, copied)}
    assert len(passwords) == 2
    for password in (ours["PGPASSWORD"], (home / "instances/main/password").read_text()):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(theirs["DATABASE_URL"], password=password)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", repo, clone)
    git(clone, "branch", "login", "origin/login")
    with at(copied):
        ok(clone, "app", "set", "shop", "--repository", clone)
        assert marked(clone, "login") == "the copy's"
        add_branches(clone, "more")
        ok(clone, "reconcile")
        assert statuses(clone)["git-branch/more"] == "connected"
    assert "git-branch/more" not in statuses(repo)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers lie outside of their homes")
def test_an_adoption_that_was_cut_off_after_the_server_started_goes_on(repo: Path, home: Path, copied: Path) -> None:
    before = photograph(home, _files(home))
    directory = str(copied / "instances/main")
    copied_server.separate(directory)
    place = _files(copied)
    embedded.start(directory)
    with at(copied):
        ok(repo, "home", "adopt", "--copied")
    assert _files(copied) == place
    assert photograph(home, _files(home)) == before


def test_what_the_copy_of_a_copy_has_is_not_taken_for_its_own(home: Path, copied: Path, tmp_path: Path) -> None:
    copied_server.separate(str(copied / "instances/main"))
    second = copy(copied, tmp_path / "second")
    before = photograph(_files(copied))
    copied_server.separate(str(second / "instances/main"))
    assert _files(second) not in (_files(copied), _files(home))
    assert photograph(_files(copied)) == before
    embedded.remove(str(second / "instances/main"))


def test_a_stop_waits_for_a_server_that_is_only_starting(repo: Path, home: Path, tmp_path: Path) -> None:
    """It has not written its process id yet, and its starter was killed."""
    directory = str(home / "instances/main")
    embedded.stop(directory)
    over = tmp_path / "over"
    work = f"import time; time.sleep(1); open({str(over)!r}, 'w').close()"
    with subprocess.Popen(["postgres", "-c", work, "-D", location.data_of(directory)], executable=sys.executable):
        embedded.stop(directory)
        assert over.exists()
    with subprocess.Popen(["sleep", "600"], cwd=location.data_of(directory)) as shell:  # of somebody who looks at it
        assert not embedded.stop(directory)
        assert shell.poll() is None
        shell.kill()


def test_a_copy_waits_until_the_originals_server_rests(repo: Path, home: Path, tmp_path: Path) -> None:
    copied = copy(home, tmp_path / "copy")
    with at(copied):
        refused = provisioner(repo, "home", "adopt", "--copied")
        assert (refused.returncode, "provisioner instance stop main" in refused.stderr) == (1, True)
        assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
    assert marked(repo, "login") == "login"
    ok(repo, "instance", "stop", "main")
    with at(copied):
        ok(repo, "home", "adopt", "--copied")
    assert _given(copied, tmp_path)["PGPORT"] != _given(home, tmp_path)["PGPORT"]
    embedded.remove(str(copied / "instances/main"))


def test_a_moved_server_is_the_same_one(repo: Path, home: Path, tmp_path: Path) -> None:
    before = environment(repo, "login")
    new = home.rename(tmp_path / "new")
    with at(new):
        assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
        ok(repo, "home", "adopt", "--moved")
        assert marked(repo, "login") == "login"
        assert environment(repo, "login")["PGPASSWORD"] == before["PGPASSWORD"]
        assert f"the files of a server of {new}" not in provisioner(repo, "doctor").stdout
        ok(repo, "instance", "stop", "main")
        assert marked(repo, "login") == "login"
    embedded.remove(str(new / "instances/main"))


def test_databases_on_a_linked_server_stay_with_the_original(
    tmp_path: Path, pg: PgServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "linked", "--engine", "postgres", "--url", pg.url())
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "linked", "shop")
    mark(repo, "login", "here")
    copied = copy(home, tmp_path / "copy")

    def there() -> object:
        with psycopg.connect(pg.url()) as connection:
            return connection.execute(
                "select datname, datallowconn, datacl::text from pg_database order by 1"
            ).fetchall(), connection.execute("select rolname, rolpassword from pg_authid order by 1").fetchall()

    before = there()
    with at(copied):
        told = ok(repo, "home", "adopt", "--copied")
        assert "2 databases of linked stay with the original, in postgresql://" in told
        assert pg.password not in told
        ok(repo, "doctor")
        assert json.loads(ok(repo, "instance", "list", "--json")) == []
        ok(repo, "app", "set", "shop", "--repository", repo)
        assert rows(repo) == []
        assert there() == before
        ok(repo, "instance", "add", "again", "--engine", "postgres", "--url", pg.url())
        ok(repo, "assign", "again", "shop")
        mark(repo, "login", "the copy's")
    assert marked(repo, "login") == "here"
