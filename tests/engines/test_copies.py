"""Forks, resets, snapshots and going back: what each command does, and what stays as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kv_files import integrity
from support import (
    add_branches,
    daemon,
    database_of,
    git,
    got,
    marked_shop,
    ok,
    provisioner,
    rows,
    shop,
    statuses,
    until,
)

from provisioner.kv import open_kv


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Each database holds the name of its timeline."""
    return marked_shop(tmp_path / "shop", "login", "cart")


def marks(repo: Path) -> dict[str, str]:
    return {row["timeline"]: got(row["path"]) for row in rows(repo)}


def snapshots(repo: Path, *name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", *name, "--json"))
    return found


AS_THEY_WERE = {name: name for name in ("production", "git-branch/login", "git-branch/cart")}


def test_a_fork_holds_what_its_source_holds_and_the_two_go_apart(repo: Path) -> None:
    before = database_of(repo, "git-branch/login")
    ok(repo, "database", "fork", "production", "login", "--yes")
    assert marks(repo) == AS_THEY_WERE | {"git-branch/login": "production"}
    fork, source = database_of(repo, "git-branch/login"), database_of(repo, "production")
    assert (fork["id"], fork["name"], fork["status"]) == (before["id"], before["name"], "connected")
    assert fork["path"] != before["path"]
    assert (fork["forked_from"], source["forked_from"]) == (source["name"], None)
    with open_kv(fork["path"]) as kv:
        kv.set(("only", "here"), 1)
    with open_kv(source["path"]) as kv:
        assert kv.get(("only", "here")).value is None
    assert integrity(Path(fork["path"])) == "ok"


@pytest.mark.parametrize("names", ["branches", "timelines", "databases", "ids"])
def test_databases_are_named_in_many_ways(repo: Path, names: str) -> None:
    login, cart = database_of(repo, "git-branch/login"), database_of(repo, "git-branch/cart")
    said = {
        "branches": ("login", "cart"),
        "timelines": ("git-branch/login", "git-branch/cart"),
        "databases": (login["name"], cart["name"]),
        "ids": (login["id"], cart["id"][:13]),
    }[names]
    ok(repo, "database", "fork", *said, "--yes")
    assert marks(repo) == AS_THEY_WERE | {"git-branch/cart": "git-branch/login"}


def test_a_branch_that_was_just_made_is_forked_to(repo: Path) -> None:
    add_branches(repo, "new")
    ok(repo, "database", "fork", "login", "new", "--yes")
    assert marks(repo) == AS_THEY_WERE | {"git-branch/new": "git-branch/login"}


def test_what_was_there_is_a_snapshot_and_comes_back(repo: Path) -> None:
    ok(repo, "database", "fork", "production", "login", "--yes")
    (kept,) = snapshots(repo, "login")
    assert (kept["cause"], kept["timeline"]) == ("fork", "git-branch/login")
    ok(repo, "database", "restore", "login", kept["id"][:8], "--yes")
    assert marks(repo) == AS_THEY_WERE
    assert [item["cause"] for item in snapshots(repo, "login")] == ["restore", "fork"]


@pytest.mark.parametrize("source", ["empty", "production", "cart"])
def test_a_reset_begins_anew(repo: Path, source: str) -> None:
    git(repo, "switch", "-q", "login")
    ok(repo, "database", "reset", *(() if source == "empty" else ("--from", source)), "--yes")
    held = {"empty": "", "production": "production", "cart": "git-branch/cart"}[source]
    assert marks(repo) == AS_THEY_WERE | {"git-branch/login": held}
    origin = {row["timeline"]: row["name"] for row in rows(repo)}.get(held)
    assert database_of(repo, "git-branch/login")["forked_from"] == origin


def test_production_can_go_back_and_is_never_forked_to_or_reset(repo: Path) -> None:
    kept = ok(repo, "database", "snapshot", "create", "production", "--label", "before").split(" ")[2]
    for command in (("fork", "login", "production"), ("reset", "production")):
        refused = provisioner(repo, "database", *command, "--yes")
        assert refused.returncode == 1
        assert "production" in refused.stderr
    assert marks(repo) == AS_THEY_WERE
    with open_kv(database_of(repo, "production")["path"]) as kv:
        kv.set(("later",), 1)
    ok(repo, "database", "restore", "production", kept, "--yes")
    with open_kv(database_of(repo, "production")["path"]) as kv:
        assert kv.get(("later",)).value is None
    assert marks(repo) == AS_THEY_WERE


def test_snapshots_are_listed_and_deleted(repo: Path, home: Path) -> None:
    ok(repo, "database", "snapshot", "create", "login", "--label", "one")
    ok(repo, "database", "snapshot", "create", "cart")
    assert {(item["timeline"], item["label"]) for item in snapshots(repo)} == {
        ("git-branch/login", "one"),
        ("git-branch/cart", ""),
    }
    (one,) = snapshots(repo, "login")
    assert one["revision"] == git(repo, "rev-parse", "login").stdout.strip()
    assert one["size"] == 36864
    assert "one" in ok(repo, "database", "snapshot", "list", "login")
    ok(repo, "database", "snapshot", "delete", one["id"], "--yes")
    assert snapshots(repo, "login") == []
    assert len(list(home.glob("instances/*/snapshots/*/*/kv.sqlite3"))) == 1
    assert provisioner(repo, "database", "restore", "login", one["id"], "--yes").returncode == 3


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("fork", "login", "login", "--yes"), "of itself"),
        (("fork", "production", "login"), "Add --yes"),
        (("fork", "nowhere", "login", "--yes"), "nowhere"),
        (("fork", "production", "nowhere", "--yes"), "nowhere"),
        (("reset", "login"), "Add --yes"),
        (("restore", "login", "12345678", "--yes"), "no snapshot"),
    ],
    ids=str,
)
def test_what_is_refused_changes_nothing(repo: Path, command: tuple[str, ...], why: str) -> None:
    refused = provisioner(repo, "database", *command)
    assert refused.returncode in (1, 3)
    assert why in refused.stderr
    assert marks(repo) == AS_THEY_WERE
    assert snapshots(repo) == []


def test_a_snapshot_of_another_database_is_not_restored(repo: Path) -> None:
    ok(repo, "database", "snapshot", "create", "cart")
    (kept,) = snapshots(repo)
    assert "does not belong to" in provisioner(repo, "database", "restore", "login", kept["id"], "--yes").stderr
    assert marks(repo) == AS_THEY_WERE


@pytest.mark.parametrize("command", ["fork production login", "reset login", "restore login SNAPSHOT"])
def test_versionstamps_go_on_growing(repo: Path, command: str) -> None:
    """One of what was there never becomes one of something else."""
    kept = ok(repo, "database", "snapshot", "create", "login").split(" ")[2]
    path = database_of(repo, "git-branch/login")["path"]
    with open_kv(path) as kv:
        for number in range(20):
            kv.set(("n", number), number)
        last = kv.set(("last",), 1)
    ok(repo, "database", *command.replace("SNAPSHOT", kept).split(" "), "--yes")
    with open_kv(path) as kv:
        assert kv.get(("last",)).value is None
        assert kv.set(("last",), 2).versionstamp > last.versionstamp


@pytest.mark.parametrize("how", ["damaged", "lost"])
@pytest.mark.parametrize("by", ["restore", "reset"])
def test_a_database_whose_data_is_damaged_or_lost_comes_back(repo: Path, how: str, by: str) -> None:
    kept = ok(repo, "database", "snapshot", "create", "login").split(" ")[2]
    path = Path(database_of(repo, "git-branch/login")["path"])
    if how == "damaged":
        path.write_bytes(b"no database")
    else:
        shutil.rmtree(path.parent)
    assert provisioner(repo, "reconcile").returncode == 1
    assert statuses(repo)["git-branch/login"] == "error"
    ok(repo, "database", by, "login", *([kept] if by == "restore" else []), "--yes")
    assert marks(repo) == AS_THEY_WERE | ({} if by == "restore" else {"git-branch/login": ""})
    assert set(statuses(repo).values()) == {"connected"}
    ok(repo, "reconcile")


@pytest.mark.parametrize("with_queue", [False, True])
def test_messages_are_delivered_twice_only_where_that_was_asked_for(repo: Path, with_queue: bool) -> None:
    with open_kv(database_of(repo, "production")["path"]) as kv:
        kv.enqueue("hello", delay=1000)
    ok(repo, "database", "fork", "production", "login", "--yes", *(["--with-queue"] if with_queue else []))
    heard: list[object] = []
    with open_kv(database_of(repo, "git-branch/login")["path"]) as kv:
        if with_queue:

            def handle(message: object) -> None:
                heard.append(message)
                kv.close()

            kv.listen_queue(handle)
        else:
            assert kv.get(("mark",)).value is None
    assert heard == (["hello"] if with_queue else [])


def test_who_has_it_open_goes_on_in_what_it_was(repo: Path) -> None:
    """Nothing that was acknowledged is lost: it is in the snapshot."""
    path = database_of(repo, "git-branch/login")["path"]
    program = (
        "import sys; from provisioner.kv import open_kv\nkv = open_kv(sys.argv[1]); kv.set(('n',), 1)\n"
        "print('ready', flush=True); sys.stdin.read(); kv.set(('n',), 2); kv.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ok(repo, "database", "reset", "login", "--yes")
        with open_kv(path) as kv:
            kv.set(("n",), "of the new one")
        process.communicate()
        assert process.returncode == 0
    with open_kv(path) as kv:
        assert kv.get(("n",)).value == "of the new one"
    (kept,) = snapshots(repo, "login")
    ok(repo, "database", "restore", "login", kept["id"], "--yes")
    with open_kv(path) as kv:
        assert kv.get(("n",)).value == 2
    assert marks(repo) == AS_THEY_WERE


def test_the_server_goes_over_to_what_was_put_in_place(repo: Path, home: Path) -> None:
    with daemon(home, "provisioner", "up", "--port", "0", announced="server"):
        variables = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))
        os.environ["DENO_KV_ACCESS_TOKEN"] = variables["DENO_KV_ACCESS_TOKEN"]
        url = next(value for value in variables.values() if value.startswith("http"))
        with open_kv(database_of(repo, "production")["path"]) as kv:
            kv.set(("n",), "production")
        try:
            with open_kv(url) as kv:
                kv.set(("n",), "login")
                ok(repo, "database", "fork", "production", "login", "--yes")
                until(lambda: kv.get(("n",)).value == "production")
        finally:
            del os.environ["DENO_KV_ACCESS_TOKEN"]
    assert marks(repo) == AS_THEY_WERE | {"git-branch/login": "production"}


def test_a_fork_that_fails_leaves_everything_as_it_was(repo: Path, home: Path) -> None:
    source = Path(database_of(repo, "production")["path"])
    source.rename(source.with_name("away"))
    source.write_bytes(b"no database" * 1000)
    refused = provisioner(repo, "database", "fork", "production", "login", "--yes")
    assert refused.returncode == 1
    assert "not a database" in refused.stderr
    source.unlink()
    source.with_name("away").rename(source)
    assert marks(repo) == AS_THEY_WERE
    assert snapshots(repo) == []
    assert list(home.glob("instances/*/new/*/*")) == []
    assert set(statuses(repo).values()) == {"connected"}


def test_purging_a_database_deletes_its_snapshots(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop", "login", options=("--grace", "0s", "--retention", "0s"))
    ok(repo, "database", "snapshot", "create", "login")
    ok(repo, "database", "snapshot", "create", "production")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert [item["timeline"] for item in snapshots(repo)] == ["production"]
    assert len(list(home.glob("instances/*/snapshots/*/*"))) == 1
    assert list(home.glob("instances/*/trash/*")) == []
