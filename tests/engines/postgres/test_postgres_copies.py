"""Forks, snapshots and what is put in the place of a PostgreSQL database, while programs use it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pg_server import PgServer
from pg_world import ask, connected_to, environment, left, mark, marked, pg_shop
from support import add_branches, database_of, git, ok, provisioner, rows, statuses

BY_FILES, BY_DUMP = "its files were copied", "from a dump"


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    for branch in ("main", "login"):
        mark(repo, branch, branch)
    return repo


def kept(repo: Path, branch: str = "login") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", branch, "--json"))
    return found


def owners(repo: Path, branch: str) -> set[str]:
    found = ask(
        repo,
        branch,
        "select pg_get_userbyid(relowner) from pg_class join pg_namespace n on n.oid = relnamespace"
        " where nspname !~ '^pg_|information_schema'",
    )
    return {row[0] for row in found}


@pytest.mark.parametrize("open_sessions", [0, 3])
def test_a_fork_is_a_copy_that_is_its_own(repo: Path, pg: PgServer, open_sessions: int) -> None:
    ask(repo, "main", "create view seen as select * from mark; create index on mark (text)")
    with ExitStack() as stack:
        sessions = [stack.enter_context(connected_to(repo, "main")) for _ in range(open_sessions)]
        told = ok(repo, "database", "fork", "production", "login", "--yes")
        assert (BY_DUMP if open_sessions else BY_FILES) in told
        for session in sessions:
            assert session.execute("select text from mark").fetchall() == [("main",)]  # none was ended
    assert marked(repo, "login") == "main"
    assert owners(repo, "login") == {environment(repo, "login")["PGUSER"]}
    mark(repo, "login", "changed")
    ask(repo, "login", "drop view seen; drop table mark")
    assert marked(repo, "main") == "main"
    ok(repo, "database", "restore", "login", kept(repo)[0]["id"], "--yes")
    assert marked(repo, "login") == "login"


def test_what_a_role_was_given_goes_to_the_role_of_a_fork(repo: Path, pg: PgServer) -> None:
    role = environment(repo, "main")["PGUSER"]
    for statement in (
        "create table secret (who text); insert into secret values ('me')",
        "alter table secret enable row level security; alter table secret force row level security",
        f'create policy mine on secret to "{role}" using (true)',
        f'alter default privileges grant select on tables to "{role}"',
        "create schema apart; create table apart.t (n int); revoke all on function lower(text) from public",
    ):
        with pytest.MonkeyPatch.context():
            try:
                ask(repo, "main", statement)
            except psycopg.errors.InsufficientPrivilege:
                assert "revoke" in statement
    for sessions in (0, 1):
        with ExitStack() as stack:
            if sessions:
                stack.enter_context(connected_to(repo, "main"))
            ok(repo, "database", "fork", "production", "login", "--yes")
        assert ask(repo, "login", "select who from secret") == [("me",)]
        database = environment(repo, "login")["PGDATABASE"]
        dependent = pg.ask(
            "select count(*) from pg_shdepend where refobjid = (select oid from pg_roles where rolname = %s)"
            " and dbid = (select oid from pg_database where datname = %s)",
            role,
            database,
        )
        assert dependent == [(0,)]
        assert marked(repo, "main") == "main"  # its role still gets in


def test_a_new_branch_may_begin_as_a_fork(repo: Path) -> None:
    ok(repo, "assign", "main", "shop", "--new-branch", "fork:production")
    add_branches(repo, "wish")
    with connected_to(repo, "main"):
        ok(repo, "reconcile")
    assert marked(repo, "wish") == "main"
    assert database_of(repo, "git-branch/wish")["forked_from"] == database_of(repo, "production")["name"]


def test_reset_begins_anew_and_what_was_there_is_kept(repo: Path) -> None:
    with connected_to(repo, "login") as session:
        told = ok(repo, "database", "reset", "login", "--yes")
        assert "are disconnected" in told
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    assert marked(repo, "login") == ""
    mark(repo, "login", "new")
    ok(repo, "database", "restore", "login", kept(repo)[0]["id"], "--yes")
    assert marked(repo, "login") == "login"
    assert {snapshot["cause"] for snapshot in kept(repo)} == {"reset", "restore"}


def test_snapshots_are_kept_restored_and_deleted(repo: Path, pg: PgServer) -> None:
    before = left(pg)
    with connected_to(repo, "login"):
        ok(repo, "database", "snapshot", "create", "login", "--label", "first")
    mark(repo, "login", "later")
    ok(repo, "database", "snapshot", "create", "login")
    second, first = kept(repo)
    assert len(left(pg) - before) == 2
    ok(repo, "database", "restore", "login", first["id"], "--yes")
    assert marked(repo, "login") == "login"
    ok(repo, "database", "restore", "login", second["id"], "--yes")
    assert marked(repo, "login") == "later"
    for snapshot in kept(repo):
        name = next(n for n in left(pg) if n.endswith(snapshot["id"].replace("-", "")[:16]))
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(environment(repo, "login")["DATABASE_URL"], dbname=name)
        ok(repo, "database", "snapshot", "delete", snapshot["id"], "--yes")
    assert left(pg) == before


def test_a_branch_goes_is_recovered_and_purged(repo: Path, pg: PgServer) -> None:
    given = environment(repo, "login")
    with connected_to(repo, "login") as session:
        git(repo, "branch", "-q", "-D", "login")
        ok(repo, "reconcile")
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    assert statuses(repo)["git-branch/login"] == "archived"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(given["DATABASE_URL"])
    assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
    git(repo, "branch", "-q", "login")
    ok(repo, "reconcile")
    assert marked(repo, "login") == "login"
    again = environment(repo, "login")
    assert again["PGDATABASE"] == given["PGDATABASE"]
    assert again["PGPASSWORD"] != given["PGPASSWORD"]
    ok(repo, "database", "snapshot", "create", "login")
    ok(repo, "app", "set", "--retention", "0s")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}
    digits = given["PGDATABASE"].rpartition("_")[2]
    assert [name for name in left(pg) if digits in name] == []
    assert marked(repo, "main") == "main"


def test_a_purged_source_leaves_its_fork_whole(repo: Path, pg: PgServer) -> None:
    add_branches(repo, "copy")
    ok(repo, "reconcile")
    ok(repo, "database", "fork", "login", "copy", "--yes")
    ok(repo, "app", "set", "--retention", "0s")
    digits = environment(repo, "login")["PGDATABASE"].rpartition("_")[2]
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    ok(repo, "reconcile")
    assert [name for name in left(pg) if digits in name] == []
    assert marked(repo, "copy") == "login"


@contextmanager
def transfers(repo: Path, branch: str, count: int) -> Iterator[list[int]]:
    """Programs that move money between accounts, whose sum stays what it is."""
    url = environment(repo, branch)["DATABASE_URL"]
    ended, done = threading.Event(), [0] * count

    def work(number: int) -> None:
        with psycopg.connect(url) as connection:
            while not ended.is_set():
                one, other = (number, (number + 1 + done[number]) % 20)
                with connection.transaction():
                    for account, amount in sorted(((one, -1), (other, 1))):
                        connection.execute("update account set money = money + %s where id = %s", (amount, account))
                done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_fork_is_of_one_moment_while_money_moves(repo: Path) -> None:
    ask(repo, "main", "create table account (id int primary key, money int)")
    ask(repo, "main", "insert into account select n, 100 from generate_series(0, 19) n")
    with transfers(repo, "main", 8) as done:
        for _ in range(2):
            before = sum(done)
            ok(repo, "database", "fork", "production", "login", "--yes")
            assert sum(done) > before
            assert ask(repo, "login", "select sum(money), count(*) from account") == [(2000, 20)]


@pytest.mark.parametrize("sessions", [20, 0], ids=["programs are connected", "somebody comes meanwhile"])
def test_nobody_waits_for_a_fork(repo: Path, sessions: int) -> None:
    """In its long form the source has 1 GB; a connection, or a statement of one that is open, takes no second."""
    rows = 1_000_000 if "KV_NIGHTLY" in os.environ else 30_000
    ask(
        repo,
        "main",
        "create table filled as select n, repeat(md5(n::text), 30) as t from generate_series(1, %s) n",
        rows,
    )
    ask(repo, "main", "create table seen (n int)")
    url = environment(repo, "main")["DATABASE_URL"]
    ended = threading.Event()
    took: list[float] = []
    failed: list[Exception] = []

    def work(connection: psycopg.Connection[Any] | None) -> None:
        try:
            while not ended.wait(0.05):
                begun = time.monotonic()
                if connection is None:
                    psycopg.connect(url).close()
                else:
                    connection.execute("insert into seen values (1)")
                took.append(time.monotonic() - begun)
        except psycopg.Error as error:
            failed.append(error)

    with ExitStack() as stack:
        users = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(sessions)]
        threads = [threading.Thread(target=work, args=(user,)) for user in (*users, None)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        ok(repo, "database", "fork", "production", "login", "--yes")
        lasted = time.monotonic() - begun
        ended.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert max(took) < max(1, lasted / 2)  # a busy machine takes longer for both
    assert ask(repo, "login", "select count(*) from filled") == [(rows,)]


def test_copies_of_production_have_to_pass_a_scrub(repo: Path, tmp_path: Path, pg: PgServer) -> None:
    ask(repo, "main", "create table person (name text, mail text)")
    ask(repo, "main", "insert into person values ('Ann', 'ann@example.org')")
    script = tmp_path / "scrub.sql"
    script.write_text("update person set mail = 'nobody'; create table scrubbed as select 1 as n;")
    ok(repo, "assign", "main", "shop", "--scrub", str(script), "--new-branch", "fork:production")
    add_branches(repo, "wish")
    ok(repo, "reconcile")
    assert ask(repo, "wish", "select mail from person") == [("nobody",)]
    assert owners(repo, "wish") == {environment(repo, "wish")["PGUSER"]}
    refused = provisioner(
        repo, "database", "fork", "production", "login", "--scrub", "psql -c 'select nothing'", "--yes"
    )
    assert refused.returncode == 1
    assert "No program was connected to the copy" in refused.stderr
    assert marked(repo, "login") == "login"
    ok(repo, "database", "fork", "production", "login", "--scrub", "psql -c 'delete from person'", "--yes")
    assert ask(repo, "login", "select count(*) from person") == [(0,)]
    assert {row["status"] for row in rows(repo)} == {"connected"}
    assert [name for name in left(pg) if name.startswith("pvn")] == []


def test_a_timeline_may_share_another_ones(repo: Path) -> None:
    ok(repo, "database", "share", "production", "login", "--yes")
    assert environment(repo, "login")["PGDATABASE"] == environment(repo, "main")["PGDATABASE"]
    assert marked(repo, "login") == "main"


def test_what_was_injected_is_revoked(repo: Path) -> None:
    old = {branch: environment(repo, branch)["DATABASE_URL"] for branch in ("main", "login")}
    with connected_to(repo, "login") as session:
        ok(repo, "token", "revoke", "--database", database_of(repo, "git-branch/login")["name"])
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(old["login"])
    psycopg.connect(old["main"]).close()
    assert marked(repo, "login") == "login"
    ok(repo, "token", "rotate-key", "--yes")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(old["main"])
    assert [marked(repo, branch) for branch in ("main", "login")] == ["main", "login"]


@pytest.mark.parametrize("form", ["custom", "plain", *(["tar", "directory"] if "KV_NIGHTLY" in os.environ else [])])
def test_dumps_are_loaded_again(repo: Path, tmp_path: Path, form: str) -> None:
    ask(repo, "main", "create extension pgcrypto; create schema apart; create table apart.t as select 7 as n")
    path = tmp_path / "dump"
    ok(repo, "database", "dump", "production", "--format", form, "-o", str(path))
    refused = provisioner(repo, "database", "load", "login", str(path), "--yes")
    assert "is not empty" in refused.stderr
    ok(repo, "database", "load", "login", str(path), "--replace", "--yes")
    assert marked(repo, "login") == "main"
    assert ask(repo, "login", "select n from apart.t") == [(7,)]
    assert owners(repo, "login") <= {environment(repo, "login")["PGUSER"], "admin"}
    assert kept(repo)[0]["cause"] == "load"
    add_branches(repo, "empty")
    ok(repo, "reconcile")
    ok(repo, "database", "load", "empty", str(path))
    assert marked(repo, "empty") == "main"
    assert kept(repo, "empty") == []
    ok(repo, "database", "reset", "empty", "--yes")
    (tmp_path / "broken").write_bytes(b"PGDMP and nothing else")
    assert provisioner(repo, "database", "load", "empty", str(tmp_path / "broken"), "--yes").returncode == 1
    assert statuses(repo)["git-branch/empty"] == "connected"
    mark(repo, "empty", "still there")


def test_an_instance_is_backed_up_deleted_and_recovered(repo: Path, home: Path, pg: PgServer) -> None:
    before = left(pg)
    ok(repo, "instance", "delete", "main", "--yes")
    assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
    assert len(list(home.glob("backups/*.tar.gz"))) == 1
    ok(repo, "instance", "recover", "main")
    assert marked(repo, "login") == "login"
    assert left(pg) == before
