"""--dry-run: what asks says what it would do, and does nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hostile import command_of, leaves
from support import marked_shop, ok, provisioner

pytestmark = pytest.mark.slow

KEYS = {"app", "action", "timeline", "database", "id", "cause", "at", "error"}
ASKING = {
    "database fork": ("main", "login"),
    "database reset": ("login",),
    "database share": ("main", "login"),
    "database archive": ("login",),
    "database purge": ("pay",),
    "database restore": ("login", "kept"),
    "database snapshot delete": ("SNAPSHOT",),
    "database load": ("login", "/dev/null", "--replace"),
    "app remove": (),
    "app domain remove": ("shop.example",),
    "preview delete": ("HEAD",),
    "var unset": ("NAME",),
    "instance move": ("default", "--directory", "moved"),
    "instance delete": ("default",),
    "unassign": ("default",),
    "token rotate-key": (),
    "kv delete": ('["a"]',),
    "prune": (),
    "reconcile": (),
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = marked_shop(tmp_path / "shop", "login", "pay", options=("--grace", "1h"))
    ok(made, "var", "set", "NAME=value")
    ok(made, "kv", "set", '["a"]', "1")
    ok(made, "preview", "create", "HEAD")
    ok(made, "database", "snapshot", "create", "login", "--label", "kept")
    ok(made, "database", "archive", "pay", "--yes")
    ok(made, "app", "domain", "add", "shop.example", "--trust")
    return made


def rows(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return list(registry.iterdump())


def files(home: Path) -> list[tuple[str, int]]:
    found = [path for path in (home / "instances").rglob("*") if path.is_file()]
    return sorted((str(path), path.stat().st_size) for path in found if path.suffix not in ("-shm", "-wal"))


def keys(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((home / "keys").rglob("*")) if path.is_file()]


def test_what_has_a_dry_run_is_in_the_table_of_this_test() -> None:
    having = {
        name for name in leaves() if "--dry-run" in {word for each in command_of(name).params for word in each.opts}
    }
    assert having == ASKING.keys()


@pytest.mark.parametrize("name", ASKING)
def test_a_dry_run_says_what_would_be_done_and_changes_nothing(repo: Path, home: Path, name: str) -> None:
    kept = json.loads(ok(repo, "database", "snapshot", "list", "--json"))[0]["id"]
    words = [kept if word == "SNAPSHOT" else word for word in ASKING[name]]
    before = rows(home), files(home), keys(home)
    for more in ((), ("--yes",)):
        if name == "reconcile" and more:
            continue
        done = provisioner(repo, *name.split(" "), *words, "--dry-run", *more)
        assert (done.returncode, bool(done.stdout)) == (0, True), done
    planned = json.loads(ok(repo, *name.split(" "), *words, "--dry-run", "--json"))
    assert all(item.keys() >= KEYS - {"id", "at", "database"} for item in planned)
    if name not in ("prune", "reconcile"):
        assert planned
        assert all(item.keys() == KEYS for item in planned)
    assert (rows(home), files(home), keys(home)) == before
    assert not (repo / "moved").exists()
