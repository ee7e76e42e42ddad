"""A server that has nothing of an instance is the wrong one, or was wiped: an operator says which, and nothing is guessed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pg_server import QUICK, PgServer, pg_running
from pg_world import mark, marked, pg_shop
from support import database_of, ok, provisioner, rows


@pytest.fixture
def server() -> Iterator[PgServer]:
    with pg_running(QUICK) as running:
        yield running


def wipe(server: PgServer) -> None:
    for (name,) in server.ask("select datname from pg_database where not datistemplate and datname <> 'postgres'"):
        server.ask(f'drop database "{name}" with (force)')
    for (schema,) in server.ask("select nspname from pg_namespace where starts_with(nspname, 'pv_owners_')"):
        server.ask(f'drop schema "{schema}" cascade')


def leads_to(home: Path, url: str) -> str:
    """Have the instance's URL lead to another server; what it was."""
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        (was,) = registry.execute("select url from instance").fetchone()
        registry.execute("update instance set url = ?", (url,))
    return str(was)


def test_what_was_on_a_wiped_server_is_discarded_once_a_person_says_that_it_was(
    tmp_path: Path, home: Path, server: PgServer
) -> None:
    repo = pg_shop(tmp_path / "shop", server, "login", "cart")
    mark(repo, "main", "precious")
    ok(repo, "database", "share", "login", "cart", "--yes")
    wipe(server)
    done = provisioner(repo, "database", "fix", "--all")
    assert done.returncode == 1
    error = str(database_of(repo, "production")["error"])
    assert "wrong server" in error
    assert "instance edit main --wiped" in error
    for words in (("database", "purge", "production", "--yes"), ("database", "reset", "login", "--yes")):
        refused = provisioner(repo, *words)
        assert refused.returncode == 1
        assert "instance edit main --wiped" in refused.stderr, refused

    unasked = provisioner(repo, "instance", "edit", "main", "--wiped")
    assert unasked.returncode == 1
    assert provisioner(repo, "database", "purge", "production", "--yes").returncode == 1
    ok(repo, "instance", "edit", "main", "--wiped", "--yes")
    ok(repo, "database", "reset", "login", "--yes")
    ok(repo, "database", "purge", "production", "--yes")
    ok(repo, "reconcile")
    assert {row["status"] for row in rows(repo) if row["timeline"] != "git-branch/cart"} == {"connected"}
    assert marked(repo, "main") == ""
    again = provisioner(repo, "instance", "edit", "main", "--wiped", "--yes")
    assert again.returncode == 1
    assert "was not wiped" in again.stderr


def test_the_wrong_server_discards_nothing(tmp_path: Path, home: Path, server: PgServer, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", server, "login")
    mark(repo, "main", "precious")
    before = pg.ask("select nspname from pg_namespace where starts_with(nspname, 'pv_owners_')")
    right = leads_to(home, pg.url())  # as a host's name that leads elsewhere now
    for words in (("database", "fix", "--all"), ("database", "purge", "production", "--yes")):
        refused = provisioner(repo, *words)
        assert refused.returncode == 1
        assert "wrong server" in refused.stderr
    assert pg.ask("select nspname from pg_namespace where starts_with(nspname, 'pv_owners_')") == before
    leads_to(home, right)
    ok(repo, "database", "fix", "--all")
    assert marked(repo, "main") == "precious"


def test_a_share_ends_with_the_database_that_is_purged(tmp_path: Path, home: Path, server: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", server, "login", "cart")
    ok(repo, "database", "share", "login", "cart", "--yes")
    name = next(row["name"] for row in rows(repo) if row["timeline"] == "git-branch/login")
    ok(repo, "database", "archive", name, "--yes")
    ok(repo, "database", "purge", name, "--yes")
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        assert registry.execute("select * from share").fetchall() == []
    ok(repo, "reconcile")
    (own,) = [row for row in rows(repo) if row["timeline"] == "git-branch/cart" and row["status"] == "connected"]
    assert own["shared_from"] is None
