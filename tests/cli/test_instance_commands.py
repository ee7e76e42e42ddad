"""`instance show`, `test` and `edit`, progress of `assign`, and retries that are visible and can be asked for one by one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import (
    add_branches,
    database_of,
    events,
    got,
    marked_shop,
    ok,
    provisioner,
    remount,
    rows,
    shop,
    small_disk,
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return marked_shop(tmp_path / "shop", "login")


def test_show_tells_of_each_database_whose_it_is_how_large_and_when_it_was_written_to(repo: Path) -> None:
    found = json.loads(ok(repo, "instance", "show", "default", "--json"))
    assert found["apps"] == ["shop"]
    by_timeline: dict[str, Any] = {database["timeline"]: database for database in found["databases"]}
    login = by_timeline["git-branch/login"]
    assert (login["app"], login["status"]) == ("shop", "connected")
    assert login["size"] > 0
    os.utime(login["path"], (1_800_000_000, 1_800_000_000))
    for name in ("-wal", "-shm"):
        Path(login["path"] + name).unlink(missing_ok=True)
    again = json.loads(ok(repo, "instance", "show", "default", "--json"))
    (login,) = [database for database in again["databases"] if database["timeline"] == "git-branch/login"]
    assert login["written_at"].startswith("2027-01-15T08:00:00")
    text = ok(repo, "instance", "show", "default")
    assert login["name"] in text
    assert "written 2027-01-15T08:00:00" in text


def test_test_says_that_all_is_well_and_leaves_nothing(repo: Path, home: Path) -> None:
    before = sorted(home.glob("instances/default/new/*"))
    said = ok(repo, "instance", "test", "default")
    assert said.count("ok  ") == len(said.splitlines()) == 5
    assert all(check["ok"] for check in json.loads(ok(repo, "instance", "test", "default", "--json")))
    assert sorted(home.glob("instances/default/new/*")) == before


def test_test_says_what_is_wrong_and_what_to_do(repo: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        ok(repo, "instance", "add", "small", "--directory", str(disk / "kv"))
        ok(repo, "instance", "test", "small")
        remount(disk, "size=8m")
        full = provisioner(repo, "instance", "test", "small")
        assert (full.returncode, "FAIL space" in full.stdout) == (1, True)
        assert "free some" in full.stderr
        place = os.statvfs(disk)
        (disk / "fill").write_bytes(bytes(place.f_bavail * place.f_frsize - 45056))  # a database, and no log
        refused = provisioner(repo, "instance", "test", "small").stdout
        assert "FAIL database: SQLite refuses to work here" in refused
        (disk / "fill").unlink()
        remount(disk, "size=32m,ro")
        unwritable = provisioner(repo, "instance", "test", "small")
        assert (unwritable.returncode, "FAIL database" in unwritable.stdout) == (1, True)
        assert "Read-only file system" in unwritable.stderr
        remount(disk, "size=32m,rw")
        shutil.rmtree(disk / "kv")
        missing = provisioner(repo, "instance", "test", "small")
        assert (missing.returncode, "is missing" in missing.stderr) == (1, True)


def test_a_new_name_changes_the_variables_and_nothing_else(repo: Path) -> None:
    before = {row["id"]: row["path"] for row in rows(repo)}
    assert "USER_CARTS_" in ok(repo, "instance", "edit", "default", "--name", "user-carts")
    assert {row["id"]: row["path"] for row in rows(repo)} == before
    assert ok(repo, "exec", "--", "printenv", "USER_CARTS_KV_PATH") == database_of(repo, "production")["path"] + "\n"
    assert provisioner(repo, "instance", "show", "default").returncode == 3
    ok(repo, "instance", "add", "other")
    assert "already" in provisioner(repo, "instance", "edit", "user-carts", "--name", "other").stderr
    assert provisioner(repo, "instance", "edit", "user-carts", "--name", "pg").returncode == 2
    assert provisioner(repo, "instance", "edit", "user-carts").returncode == 2


def test_a_directory_that_was_moved_is_believed_when_all_is_there(repo: Path, home: Path, tmp_path: Path) -> None:
    old, new = home / "instances" / "default", tmp_path / "elsewhere"
    ok(repo, "database", "archive", database_of(repo, "git-branch/login")["id"], "--yes")
    shutil.copytree(old, new, symlinks=True)
    still = provisioner(repo, "instance", "edit", "default", "--directory", str(new))
    assert (still.returncode, "is still in" in still.stderr) == (1, True)
    shutil.rmtree(old)
    archived = next((new / "archive").iterdir())
    archived.rename(tmp_path / "lost")
    missing = provisioner(repo, "instance", "edit", "default", "--directory", str(new))
    assert (missing.returncode, "1 of 2 databases" in missing.stderr) == (1, True)
    assert provisioner(repo, "exec", "--", "true").returncode == 3
    provisioner(repo, "reconcile")
    assert database_of(repo, "production")["status"] == "error"

    (tmp_path / "lost").rename(archived)
    ok(repo, "instance", "edit", "default", "--directory", str(new))
    found = database_of(repo, "production")
    assert (found["status"], found["path"].startswith(str(new))) == ("connected", True)
    assert got(found["path"]) == "production"
    ok(repo, "database", "recover", database_of(repo, "git-branch/login")["id"])
    assert got(database_of(repo, "git-branch/login")["path"]) == "git-branch/login"
    add_branches(repo, "later")
    ok(repo, "reconcile")
    assert len(events(home, "instance.edit")) == 1


def test_two_instances_never_share_a_directory(repo: Path, home: Path) -> None:
    taken = str(home / "instances" / "default")
    assert "stores in" in provisioner(repo, "instance", "add", "other", "--directory", taken).stderr
    ok(repo, "instance", "add", "other")
    assert "stores in" in provisioner(repo, "instance", "edit", "other", "--directory", taken).stderr


def test_assign_says_how_far_it_is(repo: Path) -> None:
    ok(repo, "instance", "add", "other")
    done = provisioner(repo, "assign", "other")
    assert done.stderr.splitlines() == ["shop: provisioning every timeline on other", "shop: provisioned 2 databases"]
    assert "4 of 4 databases connected" in done.stdout


def test_retries_are_visible_and_fix_tries_one_database_only(repo: Path, home: Path) -> None:
    live = home / "instances" / "default" / "live"
    found = {row["timeline"]: row for row in rows(repo)}
    for row in found.values():
        (live / row["id"]).rename(home / row["id"])
    assert provisioner(repo, "reconcile").returncode == 1
    assert provisioner(repo, "reconcile").returncode == 1
    listed = {row["timeline"]: row for row in rows(repo)}
    assert all(row["status"] == "error" and row["attempts"] >= 2 and row["retry_at"] for row in listed.values())
    assert "times, next retry at 20" in ok(repo, "status")
    shown = ok(repo, "database", "show", found["production"]["name"])
    assert "attempts: " in shown
    assert "retry_at: " in shown
    assert "its data is missing" in shown
    for row in found.values():
        (home / row["id"]).rename(live / row["id"])
    broken = {name: row["attempts"] for name, row in listed.items()}
    ok(repo, "database", "fix", found["production"]["id"][:12])
    after = {row["timeline"]: row for row in rows(repo)}
    assert (after["production"]["status"], after["production"]["attempts"]) == ("connected", 0)
    if after["git-branch/login"]["status"] == "error":  # its own time may have come meanwhile
        assert after["git-branch/login"]["attempts"] == broken["git-branch/login"]
    ok(repo, "database", "fix", "--all")
    assert {row["status"] for row in rows(repo)} == {"connected"}


def test_fix_can_be_for_one_instance_only(repo: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "one", "size=32m") as one, small_disk(tmp_path / "two", "size=32m") as two:
        for disk in (one, two):
            ok(repo, "instance", "add", disk.name, "--directory", str(disk / "kv"))
            remount(disk, "ro")
            assert provisioner(repo, "assign", disk.name).returncode == 1
        refused = provisioner(repo, "database", "fix", "--all", "--instance", "one")
        assert (refused.returncode, "failed again" in refused.stderr) == (1, True)
        remount(one, "rw")
        assert "Fixed 2 databases of one" in ok(repo, "database", "fix", "--all", "--instance", "one")
        found = {(row["instance"], row["status"]) for row in rows(repo)}
        assert found == {("default", "connected"), ("one", "connected"), ("two", "error")}
        assert "No database of one had failed" in ok(repo, "database", "fix", "--all", "--instance", "one")
        assert provisioner(repo, "database", "fix", "login", "--all", "--instance", "one").returncode == 2


def test_an_app_that_cannot_be_looked_at_keeps_no_other_from_being_mended(repo: Path, tmp_path: Path) -> None:
    gone = shop(tmp_path / "away", options=("--name", "away"))
    database = database_of(repo, "git-branch/login")
    aside = Path(database["path"]).parent.rename(tmp_path / "aside")
    assert provisioner(repo, "reconcile").returncode == 1
    aside.rename(Path(database["path"]).parent)
    gone.rename(tmp_path / "moved")
    refused = provisioner(repo, "database", "fix", "--all")
    assert (refused.returncode, str(gone) in refused.stderr) == (1, True), refused.stderr
    assert database_of(repo, "git-branch/login")["status"] == "connected"
