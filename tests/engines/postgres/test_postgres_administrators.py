"""An administrator who is not a superuser, as cloud providers offer it, can do everything that ending access needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from pg_server import QUICK, PgServer, pg_running
from pg_world import ask, environment, mark, marked
from support import add_branches, database_of, ok, repository

# PostgreSQL 16 and newer let such an administrator do less with the roles that it has made.
VERSIONS = ("usual", "newest")


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[PgServer]:
    from provisioner.engines.postgres import programs

    binaries = Path(programs.packaged()[0]) if request.param == "newest" else None
    with pg_running({**QUICK, "max_prepared_transactions": "10"}, binaries) as running:
        running.ask("create role clerk login password 'hush' createdb createrole")
        running.ask("grant connect on database postgres to clerk")
        yield running


@pytest.fixture
def repo(tmp_path: Path, server: PgServer) -> Path:
    repo = repository(tmp_path / "shop", "login", "cart")
    url = server.url(user="clerk", password="hush")
    ok(repo, "instance", "add", "main", "--engine", "postgres", "--url", url)
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    for branch in ("main", "login", "cart"):
        mark(repo, branch, branch)
    return repo


def test_programs_are_ended_with_what_they_keep_locked(repo: Path, server: PgServer) -> None:
    own, name = environment(repo, "login"), database_of(repo, "git-branch/login")["name"]
    for words in (
        ("token", "revoke", "--database", name),
        ("database", "reset", "login", "--yes"),
        ("database", "archive", name, "--yes"),
    ):
        url = environment(repo, "login")["DATABASE_URL"]
        with closing(psycopg.connect(url, autocommit=True)) as session, closing(psycopg.connect(url)) as other:
            session.execute(
                f"begin; alter role \"{own['PGUSER']}\" set work_mem = '8MB'; prepare transaction 'held {words[0]}'"
            )
            other.execute(f'drop owned by "{own["PGUSER"]}"')
            ok(repo, *words)
            with pytest.raises(psycopg.OperationalError):
                other.execute("select 1")
        assert server.ask("select gid from pg_prepared_xacts") == []
    ok(repo, "database", "recover", name)
    assert marked(repo, "login") == ""


def test_a_share_begins_and_ends(repo: Path, server: PgServer) -> None:
    main = environment(repo, "main")
    ok(repo, "database", "share", "production", "login", "--yes")
    shared = environment(repo, "login")
    assert shared["PGDATABASE"] == main["PGDATABASE"]
    with closing(psycopg.connect(main["DATABASE_URL"], autocommit=True)) as owner:
        with closing(psycopg.connect(shared["DATABASE_URL"], autocommit=True)) as session:
            session.execute("update mark set text = 'shared'; create table made (n int)")
            session.execute("set role none; create table left_there (n int)")
            ok(repo, "database", "unshare", "login")
            with pytest.raises(psycopg.OperationalError):
                session.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(shared["DATABASE_URL"])
        owner.execute("drop table made, left_there")
        assert owner.execute("select text from mark").fetchall() == [("shared",)]
    assert server.ask("select rolname from pg_roles where rolname like 'pvt%%'") == []


def test_dumps_are_loaded_with_the_extensions_that_it_may_make(repo: Path, server: PgServer) -> None:
    if not server.ask("select 1 from pg_available_extensions where name = 'pgcrypto'"):
        pytest.skip("this server's package has no extensions")
    ask(repo, "main", "create extension pgcrypto")
    for form in ("custom", "plain"):
        ok(repo, "database", "dump", "production", "--format", form, "-o", form)
        ok(repo, "database", "load", "login", form, "--replace", "--yes")
        assert marked(repo, "login") == "main"
        query = "select pg_get_userbyid(extowner) = current_user from pg_extension where extname = 'pgcrypto'"
        assert ask(repo, "login", query) == [(True,)]
    with closing(psycopg.connect(environment(repo, "main")["DATABASE_URL"])):  # so that the copy is a dump
        ok(repo, "database", "fork", "production", "cart", "--yes")
    ask(repo, "cart", "drop extension pgcrypto")  # as its owner may on production


def test_a_role_has_limits(repo: Path) -> None:
    ok(repo, "instance", "edit", "main", "--max-connections-per-database", "2")
    assert json.loads(ok(repo, "instance", "show", "main", "--json"))["limits"]["connections"] == 2
    url = environment(repo, "login")["DATABASE_URL"]
    with (
        closing(psycopg.connect(url)),
        closing(psycopg.connect(url)),
        pytest.raises(psycopg.OperationalError) as refused,
    ):
        psycopg.connect(url)
    assert "too many connections for role" in str(refused.value)
    add_branches(repo, "later")
    ok(repo, "reconcile")
