"""What the role of one timeline can use of a server that others use too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg
import pytest
from pg_server import QUICK, PgServer, pg_running
from pg_world import ask, connected_to, environment, mark, marked, pg_shop
from support import add_branches, daemon, ok, provisioner, repository, until

MOST = 20  # connections of the server; three are the superuser's
SORT = (
    "set work_mem = '64kB'; select count(*) from (select md5(n::text) m from generate_series(1, 200000) n order by m) t"
)


@pytest.fixture(scope="module")
def small() -> Iterator[PgServer]:
    with pg_running({**QUICK, "max_connections": str(MOST)}) as server:
        yield server


@pytest.fixture
def repo(tmp_path: Path, small: PgServer) -> Path:
    return pg_shop(tmp_path / "shop", small, "login", "cart")


def taken(url: str) -> tuple[int, str]:
    """How many connections one role is given, and what it is told of the next."""
    with ExitStack() as stack:
        for number in range(MOST + 1):
            try:
                stack.enter_context(psycopg.connect(url))
            except psycopg.OperationalError as error:
                return number, str(error)
    raise AssertionError("the server has no limit")


def test_one_role_leaves_connections_for_the_others(repo: Path, small: PgServer) -> None:
    mark(repo, "cart", "here")
    with ExitStack() as stack:
        url = environment(repo, "login")["DATABASE_URL"]
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(url))
        assert marked(repo, "cart") == "here"
        add_branches(repo, "later")
        ok(repo, "reconcile")
    until(lambda: small.ask("select count(*) from pg_stat_activity where datname like 'pv%%'") == [(0,)])
    number, told = taken(url)
    assert number == (MOST - 3) // 2
    assert "too many connections for role" in told


def test_the_limit_is_what_the_instance_says(repo: Path, small: PgServer) -> None:
    url = environment(repo, "login")["DATABASE_URL"]
    ok(repo, "instance", "edit", "main", "--max-connections-per-database", "3")
    assert taken(url)[0] == 3
    add_branches(repo, "later")
    ok(repo, "reconcile")
    assert taken(environment(repo, "later")["DATABASE_URL"])[0] == 3
    shown = json.loads(ok(repo, "instance", "show", "main", "--json"))["limits"]
    assert shown["connections"] == 3
    assert "at most 3 connections" in ok(repo, "instance", "show", "main")
    ok(repo, "instance", "edit", "main", "--max-connections-per-database", "none")
    assert taken(url)[0] > MOST - 6
    ok(repo, "instance", "edit", "main", "--max-connections-per-database", "default")
    assert taken(url)[0] == (MOST - 3) // 2


def test_temporary_files_have_a_limit_that_the_role_cannot_raise(repo: Path) -> None:
    ask(repo, "login", SORT)
    ok(repo, "instance", "edit", "main", "--max-temp-per-connection", "1MB")
    own = environment(repo, "login")["PGUSER"]
    for statement in ("set temp_file_limit = -1", f'alter role "{own}" set temp_file_limit = -1'):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(repo, "login", statement)
    for statement in (f'alter role "{own}" reset all', "reset all", f'alter role "{own}" set statement_timeout = 0'):
        ask(repo, "login", statement)
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        ask(repo, "login", SORT)
    ok(repo, "instance", "edit", "main", "--max-temp-per-connection", "none")
    ask(repo, "login", SORT)


def begun(stack: ExitStack, repo: Path, *statements: str) -> int:
    """Run statements as an app of a branch does, the last one without waiting for it: the process that does so."""
    url = environment(repo, "login")["DATABASE_URL"]
    connection = stack.enter_context(closing(psycopg.connect(url, autocommit=True)))
    *first, last = statements
    for statement in first:
        connection.execute(statement.encode())
    connection.pgconn.send_query(last.encode())
    return connection.info.backend_pid


STUBBORN = """
do $$ begin loop begin perform pg_sleep(600); exception when query_canceled then null; end; end loop; end $$
"""


def test_statements_end_after_their_time_whatever_a_role_sets(repo: Path, home: Path, small: PgServer) -> None:
    ok(repo, "instance", "edit", "main", "--max-statement-time", "1s")
    with pytest.raises(psycopg.errors.QueryCanceled):
        ask(repo, "login", "select pg_sleep(600)")  # by the server alone, which needs no daemon for it
    mark(repo, "login", "before")
    with daemon(home):
        raised = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0"
        with ExitStack() as stack, connected_to(repo, "cart") as resting:
            processes = [
                begun(stack, repo, raised, "select pg_sleep(600)"),
                begun(stack, repo, raised, STUBBORN),
                begun(stack, repo, raised, "begin", "select pg_current_xact_id()"),
            ]
            query = "select count(*) from pg_stat_activity where pid = any(%s)"
            until(lambda: small.ask(query, processes) == [(0,)])
            assert resting.execute("select 1").fetchone() == (1,)  # one that does nothing is left alone
    assert marked(repo, "login") == "before"


def test_roles_of_older_versions_get_the_limits_at_the_next_reconcile(repo: Path, small: PgServer) -> None:
    own = environment(repo, "login")["PGUSER"]
    small.ask(f'alter role "{own}" connection limit -1')
    small.ask(f'alter role "{own}" reset all')
    small.ask(f'alter role "{own}" set search_path to public')
    add_branches(repo, "later")
    ok(repo, "reconcile")
    query = "select rolconnlimit, rolconfig from pg_roles where rolname = %s"
    ((connections, settings),) = small.ask(query, own)
    assert connections == (MOST - 3) // 2
    assert {word.partition("=")[0] for word in settings} == {
        *("search_path", "temp_file_limit", "statement_timeout", "idle_in_transaction_session_timeout")
    }
    small.ask(f"alter role \"{own}\" set statement_timeout to '5s'")  # of its own
    add_branches(repo, "latest")
    ok(repo, "reconcile")
    assert "statement_timeout=5s" in small.ask(query, own)[0][1]


def test_what_cannot_be_limited_is_reported(tmp_path: Path, small: PgServer) -> None:
    small.ask(
        "create role humble login password 'hush' createdb createrole; grant connect on database postgres to humble"
    )
    try:
        repo = repository(tmp_path / "humble", "login")
        ok(
            repo,
            "instance",
            "add",
            "humble",
            "--engine",
            "postgres",
            "--url",
            small.url(user="humble", password="hush"),
        )
        ok(repo, "app", "add", "--name", "humble")
        ok(repo, "assign", "humble", "humble")
        assert taken(environment(repo, "login")["DATABASE_URL"])[0] == (MOST - 3) // 2
        shown = json.loads(ok(repo, "instance", "show", "humble", "--json"))["limits"]
        assert shown["temp_bytes"] is None
        assert "GRANT SET ON PARAMETER temp_file_limit TO humble" in shown["note"]
        assert "GRANT SET ON PARAMETER temp_file_limit TO humble" in ok(repo, "instance", "test", "humble")
        small.ask("grant set on parameter temp_file_limit to humble")
        ok(repo, "instance", "edit", "humble", "--max-temp-per-connection", "1MB")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            ask(repo, "login", SORT)
    finally:
        ok(repo, "instance", "delete", "humble", "--yes", "--no-backup")
        with closing(small.connect()) as admin:
            for (name,) in admin.execute("select datname from pg_database where pg_get_userbyid(datdba) = 'humble'"):
                admin.execute(f'drop database "{name}" with (force)')
            for (name,) in admin.execute("select rolname from pg_roles where rolname like 'pv%'").fetchall():
                with suppress(psycopg.Error):
                    admin.execute(f'drop role "{name}"')
            admin.execute("drop owned by humble; drop role humble")


@pytest.mark.parametrize(
    "option",
    [
        ("--max-connections-per-database", "0"),
        ("--max-connections-per-database", "many"),
        ("--max-connections-per-database", "-1"),
        ("--max-temp-per-connection", "1 furlong"),
        ("--max-temp-per-connection", "0"),
        ("--max-statement-time", "never"),
        ("--max-statement-time", "10ms"),
    ],
)
def test_limits_that_make_no_sense_are_refused(repo: Path, option: tuple[str, str]) -> None:
    assert provisioner(repo, "instance", "edit", "main", *option).returncode == 2


def test_files_have_no_such_limits(tmp_path: Path) -> None:
    ok(tmp_path, "instance", "add", "keys")
    done = provisioner(tmp_path, "instance", "edit", "keys", "--max-connections-per-database", "3")
    assert done.returncode == 2
    assert "--max-connections-per-database is for the engine postgres" in done.stderr
    assert json.loads(ok(tmp_path, "instance", "show", "keys", "--json"))["limits"] is None
