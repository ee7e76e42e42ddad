"""A PostgreSQL database whose pages are damaged is copied over nothing, and is found by who reads everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pg_server import PgServer, pg_running
from pg_world import ask, environment, mark, marked, pg_shop
from support import ok, provisioner


@pytest.fixture
def server() -> Iterator[PgServer]:
    """A server that may be stopped, and its files damaged."""
    with pg_running() as running:
        yield running


@pytest.fixture
def repo(tmp_path: Path, server: PgServer) -> Path:
    """`login` has a table whose third page is damaged; the others are as they were."""
    repo = pg_shop(tmp_path / "shop", server, "login", "cart")
    for branch in ("login", "cart"):
        mark(repo, branch, branch)
    ask(repo, "login", "create table many as select generate_series(1, 100000) as number")
    (row,) = ask(repo, "login", "select pg_relation_filepath('many')")
    server.stop()
    with (server.data / row[0]).open("r+b") as file:
        file.seek(2 * 8192)
        file.write(b"\xff" * 8192)
    server.start()
    return repo


def test_a_fork_and_a_snapshot_of_a_damaged_database_are_refused(repo: Path) -> None:
    for words in (("fork", "login", "cart", "--yes"), ("snapshot", "create", "login")):
        done = provisioner(repo, "database", *words)
        assert done.returncode == 1, done
        assert "is damaged" in done.stderr
        assert "provisioner doctor --deep" in done.stderr
    assert marked(repo, "cart") == "cart"
    assert json.loads(ok(repo, "database", "snapshot", "list", "--json")) == []
    ok(repo, "database", "fork", "cart", "login", "--yes")
    assert marked(repo, "login") == "cart"


def test_reading_everything_finds_it(repo: Path) -> None:
    assert environment(repo, "login")["PGDATABASE"]
    findings = json.loads(provisioner(repo, "doctor", "--deep", "--json").stdout)
    wrong = [item["message"] for item in findings if "is damaged" in item["message"]]
    assert len(wrong) == 1, findings
    assert "page" in wrong[0]
