"""What a program keeps locked in its database, or on its role, keeps nothing else waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from pg_server import QUICK, PgServer, pg_running
from pg_world import ask, environment, mark, marked, pg_shop
from support import add_branches, database_of, git, ok, provisioner, statuses

# Each is held by a session of its own; the last statement of some never ends.
HELD: dict[str, tuple[str, ...]] = {
    "its role's settings": ("begin", "alter role {role} set work_mem = '8MB'"),
    "its role's password": ("begin", "alter role {role} password 'known'"),
    "its role's settings in its database": ("begin", "alter role {role} in database {database} set work_mem = '8MB'"),
    "all that its role has": ("begin", "drop owned by {role}"),
    "a table": ("begin", "lock table mark in access exclusive mode"),
    "advisory locks and a channel": ("begin", "select pg_advisory_lock(n) from generate_series(1, 9) n", "listen x"),
    "a statement without an end": ("select pg_sleep(6000)",),
    "a copy that nothing comes of": ("copy mark from stdin",),
    "an answer that is not read": ("select repeat('x', 1000) from generate_series(1, 10000000)",),
    "a prepared transaction": (
        "begin",
        "alter role {role} set work_mem = '8MB'",
        "prepare transaction 'held {database}'",
    ),
    "a prepared transaction of all": ("begin", "drop owned by {role}", "prepare transaction 'held {database}'"),
}

PREPARED = "select gid from pg_prepared_xacts"


@pytest.fixture(scope="module")
def server() -> Iterator[PgServer]:
    with pg_running({**QUICK, "max_prepared_transactions": "10"}) as running:
        yield running


@pytest.fixture
def repo(tmp_path: Path, server: PgServer) -> Path:
    for gid, database in server.ask("select gid, database from pg_prepared_xacts"):  # of a test that has failed
        server.ask(f"rollback prepared '{gid}'", database=database)
    repo = pg_shop(tmp_path / "shop", server, "login", "cart")
    for branch in ("main", "login", "cart"):
        mark(repo, branch, branch)
    return repo


@contextmanager
def holding(repo: Path, branch: str, statements: tuple[str, ...]) -> Iterator[None]:
    """A program of the branch that keeps what these statements lock."""
    own = environment(repo, branch)
    *first, last = (each.format(role=own["PGUSER"], database=own["PGDATABASE"]) for each in statements)
    with closing(psycopg.connect(own["DATABASE_URL"], autocommit=True)) as connection:
        for statement in first:
            connection.execute(statement.encode())
        connection.pgconn.send_query(last.encode())
        if not last.startswith(("copy", "select pg_sleep", "select repeat")):
            while connection.pgconn.is_busy():
                connection.pgconn.consume_input()
        yield


@pytest.mark.parametrize("what", HELD)
def test_what_is_done_to_a_database_does_not_wait_for_its_programs(repo: Path, server: PgServer, what: str) -> None:
    own = database_of(repo, "git-branch/login")["name"]
    for number, words in enumerate(
        (
            ("token", "revoke", "--database", own),
            ("database", "reset", "login", "--from", "production", "--yes"),
            ("database", "archive", own, "--yes"),
        )
    ):
        with holding(repo, "login", HELD[what]):
            add_branches(repo, f"pushed-{number}")
            ok(repo, "reconcile")
            done = provisioner(repo, *words)
            assert done.returncode == 0, (words, done.stderr)
            assert server.ask(PREPARED) == [], words
    assert statuses(repo)["git-branch/login"] == "archived"
    ok(repo, "database", "recover", own)
    assert marked(repo, "login") == "main"


SOME = tuple(HELD) if "KV_NIGHTLY" in os.environ else ("all that its role has", "a prepared transaction")


@pytest.mark.parametrize("what", SOME)
def test_a_branch_goes_and_its_data_with_it_whatever_its_programs_do(repo: Path, what: str) -> None:
    ok(repo, "app", "set", "--retention", "0s")
    gone = environment(repo, "login")["PGDATABASE"]
    with holding(repo, "login", HELD[what]):
        git(repo, "branch", "-q", "-D", "login")
        add_branches(repo, "later")
        ok(repo, "reconcile")
        ok(repo, "reconcile")
    assert gone not in [row[0] for row in ask(repo, "later", "select datname from pg_database")]
    assert statuses(repo)["git-branch/later"] == "connected"


@pytest.mark.parametrize("what", ["a copy that nothing comes of", "an answer that is not read"])
def test_databases_are_dropped_whatever_programs_of_others_do(repo: Path, what: str) -> None:
    """PostgreSQL 15 and newer have every session take notice first, which one that waits for its client does not."""
    ok(repo, "database", "snapshot", "create", "cart")
    kept = ok(repo, "database", "snapshot", "list", "cart", "--json").split('"id": "')[1].split('"')[0]
    with holding(repo, "login", HELD[what]):
        ok(repo, "database", "snapshot", "delete", kept, "--yes")
        ok(repo, "instance", "test", "main")
    assert marked(repo, "login") == "login"


def test_a_table_that_is_locked_keeps_only_its_own_copies_from_being_made(repo: Path) -> None:
    ok(repo, "assign", "main", "shop", "--new-branch", "fork:production")
    with holding(repo, "main", HELD["a table"]):
        add_branches(repo, "copied")
        assert provisioner(repo, "reconcile").returncode == 1
        found = database_of(repo, "git-branch/copied")
        assert found["status"] == "error"
        assert "a program has kept a table locked" in found["error"]
        provisioner(repo, "assign", "main", "shop", "--new-branch", "empty")
        add_branches(repo, "fresh")
        provisioner(repo, "reconcile")
        assert statuses(repo)["git-branch/fresh"] == "connected"
        for words in (("database", "snapshot", "create", "production"), ("database", "dump", "production", "-o", "x")):
            done = provisioner(repo, *words)
            assert done.returncode == 1
            assert "a program has kept a table locked" in done.stderr
    ok(repo, "database", "fix", "--all")
    assert marked(repo, "copied") == "main"
