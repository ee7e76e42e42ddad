"""What is damaged is copied over nothing: the source is checked first, and the target stays as it was."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from support import database_of, got, marked_shop, ok, provisioner

from provisioner.kv import open_kv


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """`login` has 9 MB, of which 20 kB in the middle are damaged; the others hold the names of their timelines."""
    repo = marked_shop(tmp_path / "shop", "login", "cart")
    path = database_of(repo, "git-branch/login")["path"]
    choose = random.Random(1)
    with open_kv(path) as kv:
        for number in range(300):
            kv.set(("n", number), choose.randbytes(30_000))
    _damage(path)
    return repo


def _damage(path: str) -> None:
    assert not os.path.exists(f"{path}-wal")
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(random.Random(2).randbytes(20_000))


def _refused(repo: Path, *words: str) -> str:
    done = provisioner(repo, *words)
    assert done.returncode == 1, done
    assert "is damaged" in done.stderr
    return done.stderr


def test_a_fork_of_a_damaged_database_is_refused_and_the_target_stays(repo: Path) -> None:
    before = database_of(repo, "git-branch/cart")
    name = database_of(repo, "git-branch/login")["name"]
    said = _refused(repo, "database", "fork", "login", "cart", "--yes")
    assert f"database {name} is damaged" in said
    assert f"provisioner database snapshot list {name}" in said
    after = database_of(repo, "git-branch/cart")
    assert (after["path"], got(after["path"])) == (before["path"], "git-branch/cart")
    assert json.loads(ok(repo, "database", "snapshot", "list", "cart", "--json")) == []
    _refused(repo, "database", "reset", "cart", "--from", "login", "--yes")
    assert got(database_of(repo, "git-branch/cart")["path"]) == "git-branch/cart"


def test_a_snapshot_of_a_damaged_database_is_refused(repo: Path) -> None:
    _refused(repo, "database", "snapshot", "create", "login")
    assert json.loads(ok(repo, "database", "snapshot", "list", "login", "--json")) == []


def test_a_damaged_snapshot_is_not_restored(repo: Path) -> None:
    path = database_of(repo, "git-branch/cart")["path"]
    with open_kv(path) as kv:
        for number in range(100):
            kv.set(("n", number), bytes(30_000))
    ok(repo, "database", "snapshot", "create", "cart")
    (kept,) = json.loads(ok(repo, "database", "snapshot", "list", "cart", "--json"))
    (file,) = (repo.parent / "home").glob(f"instances/*/snapshots/*/{kept['id']}/kv.sqlite3")
    _damage(str(file))
    with open_kv(path) as kv:
        kv.set(("newer",), 1)
    said = _refused(repo, "database", "restore", "cart", kept["id"], "--yes")
    assert f"snapshot {kept['id']} of" in said
    with open_kv(database_of(repo, "git-branch/cart")["path"]) as kv:
        assert kv.get(("newer",)).value == 1


def test_a_damaged_database_can_be_replaced_and_its_data_is_kept(repo: Path) -> None:
    ok(repo, "database", "fork", "cart", "login", "--yes")
    assert got(database_of(repo, "git-branch/login")["path"]) == "git-branch/cart"
    (kept,) = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    assert kept["cause"] == "fork"


def _wrong(repo: Path, *options: str) -> dict[str, str]:
    findings = json.loads(provisioner(repo, "doctor", "--json", *options).stdout)
    return {item["check"]: item["message"] for item in findings if not item["ok"]}


def test_doctor_reads_everything_if_it_is_asked_to(repo: Path) -> None:
    usual = _wrong(repo)
    name = database_of(repo, "git-branch/login")["name"]
    deep = {check: text for check, text in _wrong(repo, "--deep").items() if check not in usual}
    assert list(deep) == [f"app shop {name}"]
    assert "is damaged" in deep[f"app shop {name}"]
    ok(repo, "database", "reset", "login", "--yes")
    deep = {check: text for check, text in _wrong(repo, "--deep").items() if check not in usual}
    assert "snapshot" in deep[f"app shop {name}"], "the damaged data is a snapshot now"
    ok(
        repo,
        "database",
        "snapshot",
        "delete",
        json.loads(ok(repo, "database", "snapshot", "list", "--json"))[0]["id"],
        "--yes",
    )
    assert _wrong(repo, "--deep").keys() == usual.keys()


def test_a_backup_has_what_is_damaged_and_says_so(repo: Path) -> None:
    done = provisioner(repo, "instance", "delete", "default", "--yes")
    assert done.returncode == 0, done
    assert f"{database_of_damaged(repo)} is damaged" in done.stderr


def database_of_damaged(repo: Path) -> str:
    (row,) = [
        row for row in json.loads(ok(repo, "database", "list", "--json")) if row["timeline"] == "git-branch/login"
    ]
    return str(row["name"])
