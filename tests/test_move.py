"""Moving an instance's databases between files and a server, while programs use them."""

from __future__ import annotations

from pathlib import Path

from kv_instance_world import mark, marked, serving
from pg_server import PgServer
from support import connected, ok, shop


def test_an_instance_goes_to_a_server_and_back(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login", "cart")
    with serving():
        for branch in ("main", "login", "cart"):
            mark(repo, branch, branch)
        said = ok(repo, "instance", "move", "default", "--url", pg.url(), "--yes")
        assert "default is in postgresql://" in said
        assert [marked(repo, branch) for branch in ("main", "login", "cart")] == ["main", "login", "cart"]
        mark(repo, "login", "there")
        said = ok(repo, "instance", "move", "default", "--directory", str(tmp_path / "again"), "--yes")
        assert [marked(repo, branch) for branch in ("main", "login", "cart")] == ["main", "there", "cart"]
    assert connected(repo) == {"main", "login", "cart"}
