"""Branches with databases of their own on a PostgreSQL server."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer
from pg_world import ask, environment, left, mark, marked, pg_shop
from support import add_branches, database_of, ok, rows, run, statuses


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    return pg_shop(tmp_path / "shop", pg, "login", "cart", "search", "pay")


def test_a_branch_is_connected_to_its_own_database_by_any_client(repo: Path, pg: PgServer) -> None:
    assert set(statuses(repo).values()) == {"connected"}
    branches = ("main", "login", "cart", "search", "pay")
    for branch in branches:
        mark(repo, branch, branch)
    assert [marked(repo, branch) for branch in branches] == list(branches)
    told = ok(repo, "exec", "--branch", "login", "--", "psql", "-Atc", "select text from mark")
    assert told == "login\n"
    given = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))
    assert given == environment(repo, "login")
    assert given["PGHOST"] == "127.0.0.1"
    assert given["PGPORT"] == str(pg.port)
    assert len({environment(repo, branch)["PGDATABASE"] for branch in branches}) == 5
    assert all(len(given[name].encode()) <= 63 for name in ("PGDATABASE", "PGUSER"))
    assert given["MAIN_DATABASE_URL"] == given["DATABASE_URL"]
    assert given["DENO_TIMELINE"] == "git-branch/login"
    assert not any("KV" in name for name in given)


def test_nothing_of_a_shell_leads_elsewhere(repo: Path) -> None:
    stray = {"PGSERVICE": "other", "PGHOSTADDR": "203.0.113.1", "PGOPTIONS": "-c x=y", "PGSSLMODE": "verify-full"}
    query = ("psql", "-Atc", "select current_database()")
    told = ok(repo, "exec", "--branch", "login", "--", *query, add=stray)
    assert told.strip() == environment(repo, "login")["PGDATABASE"]
    script = ok(repo, "env", "--branch", "login", "--format", "shell")
    sourced = run(repo, "sh", "-c", f"{script}\npsql -Atc 'select current_database()'", check=True, add=stray)
    assert sourced.stdout == told


def test_a_role_gets_at_nothing_but_its_own_database(repo: Path, pg: PgServer) -> None:
    own = environment(repo, "login")
    others = pg.ask("select datname from pg_database where datname <> %s", own["PGDATABASE"])
    assert len(others) >= 7
    for (name,) in others:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(own["DATABASE_URL"], dbname=name)
    main = environment(repo, "main")
    refused = (
        "select pg_read_file('/etc/passwd')",
        "copy (select 1) to program 'true'",
        "select lo_import('/etc/passwd')",
        "create extension dblink",
        "create extension postgres_fdw",
        "create database another",
        "create role another",
        f'alter role "{own["PGUSER"]}" superuser',
        f'alter role "{own["PGUSER"]}" createdb',
        f"alter role \"{main['PGUSER']}\" password 'known'",
        f'set role "{main["PGUSER"]}"',
        f'drop database "{main["PGDATABASE"]}"',
        f'alter database "{own["PGDATABASE"]}" rename to mine',
        f'set role "{pg.user}"',
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'admin'",
        "alter system set fsync to off",
        "select * from pg_authid",
    )
    for statement in refused:
        with pytest.raises(psycopg.Error) as found:
            ask(repo, "login", statement)
        assert found.value.sqlstate in ("42501", "42704", "0A000", "25001", "58P01"), statement
    ask(repo, "login", f'grant connect on database "{own["PGDATABASE"]}" to public')  # only a warning: it may not
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(main["DATABASE_URL"], dbname=own["PGDATABASE"])


def test_a_role_may_do_what_programs_do_in_a_database_of_theirs(repo: Path) -> None:
    for statement in (
        "create table parent (id serial primary key, word text)",
        "create schema other",
        "create table other.child (parent int references parent)",
        "create extension pgcrypto",
        "create temporary table passing (n int)",
        "create function twice(n int) returns int language sql as 'select 2 * n'",
        "drop schema public cascade",
        "create schema public",
        "create materialized view counted as select 1 as n",
    ):
        ask(repo, "login", statement)
    assert ask(repo, "login", "select n from counted") == [(1,)]


def test_passwords_come_out_where_they_are_asked_for_and_nowhere_else(repo: Path, pg: PgServer, home: Path) -> None:
    passwords = {environment(repo, branch)["PGPASSWORD"] for branch in ("main", "login")}
    assert len(passwords) == 2
    told = "".join(
        ok(repo, *words)
        for words in (
            ("status", "--json"),
            ("database", "list", "--json"),
            ("instance", "list", "--json"),
            ("instance", "show", "main", "--json"),
            ("instance", "test", "main"),
            ("app", "list", "--json"),
            ("database", "show", database_of(repo, "production")["name"]),
        )
    )
    registry = b"".join(path.read_bytes() for path in home.glob("registry.db*"))
    for secret in (*passwords, pg.password):
        assert secret not in told
    for secret in passwords:
        assert secret.encode() not in registry
    assert f"127.0.0.1:{pg.port}" in told


def test_an_app_may_have_both_engines(tmp_path: Path, repo: Path) -> None:
    ok(repo, "instance", "add", "keys")
    ok(repo, "assign", "keys", "shop")
    given = environment(repo, "login")
    assert given["DATABASE_URL"].startswith("postgresql://")
    assert Path(given["DENO_KV_DEFAULT_PATH"]).is_file()
    assert given["KEYS_KV_PATH"] == given["DENO_KV_DEFAULT_PATH"]
    (document,) = [item for item in json.loads(ok(repo, "status", "--json")) if item["branch"] == "login"]
    assert {item["engine"] for item in document["databases"]} == {"postgres", "deno-kv"}
    postgres, keys = sorted(document["databases"], key=lambda item: str(item["engine"]), reverse=True)
    assert postgres["path"] is None
    assert postgres["url"].startswith("postgresql://127.0.0.1:")
    assert postgres["size"] > 1_000_000
    assert keys["path"]


def test_a_branch_that_comes_later_gets_its_database_too(repo: Path, pg: PgServer) -> None:
    before = left(pg)
    add_branches(repo, "later", "wishes/für-später")
    ok(repo, "reconcile")
    assert len(left(pg) - before) == 2
    mark(repo, "wishes/für-später", "here")
    assert marked(repo, "wishes/für-später") == "here"
    assert marked(repo, "later") == ""
    assert all(row["status"] == "connected" for row in rows(repo))
