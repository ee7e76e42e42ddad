"""Databases made ahead are like any other, belong to one branch only, and are nothing one has to rely on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from support import branches, connected, daemon, files, git, got, ok, put, repository, until

from provisioner.engines.files import prewarmed
from provisioner.kv.stores.sqlite.schema import empty_file


def _location(home: Path) -> Path:
    return home / "instances" / "default"


def test_a_daemon_makes_databases_ahead_and_branches_get_them(home: Path, tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    ok(shop, "init", "--no-hooks")
    spare = _location(home) / "spare"
    with daemon(home):
        until(lambda: len(list(spare.iterdir())) == 16)
        inodes = {(path / "kv.sqlite3").stat().st_ino for path in spare.iterdir()}
        for number in range(5):
            git(shop, "branch", f"b{number}")
        until(lambda: connected(shop) == branches(shop))
        taken = [path.stat().st_ino in inodes for branch, path in files(shop).items() if branch != "main"]
        assert taken == [True] * 5
        until(lambda: len(list(spare.iterdir())) == 16)
    for branch, path in files(shop).items():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        put(path, branch)
    assert {branch: got(path) for branch, path in files(shop).items()} == {branch: branch for branch in branches(shop)}


def test_a_spare_that_another_took_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "new" / "0").mkdir(parents=True)
    assert prewarmed.stock(str(tmp_path), 2)
    listed = prewarmed.listing(str(tmp_path))
    assert prewarmed.take(str(tmp_path), list(listed), str(tmp_path / "one"))
    assert prewarmed.take(str(tmp_path), list(listed), str(tmp_path / "two"))
    assert not prewarmed.take(str(tmp_path), list(listed), str(tmp_path / "three"))
    assert (tmp_path / "one" / "kv.sqlite3").read_bytes() == empty_file()


def test_what_a_killed_daemon_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "new" / "0" / "spare-half").mkdir(parents=True)
    assert prewarmed.stock(str(tmp_path), 10)
    assert not prewarmed.stock(str(tmp_path), 10)
    assert list((tmp_path / "new" / "0").iterdir()) == []
    assert len(prewarmed.listing(str(tmp_path))) == 10
