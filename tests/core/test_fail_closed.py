"""Where it cannot be told which database is meant, or it cannot be used, nothing runs and nothing is printed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from support import (
    add_branches,
    database_of,
    git,
    got,
    ok,
    provisioner,
    put,
    remount,
    repository,
    shop,
    small_disk,
    statuses,
)


@pytest.fixture
def repo(home: Path, tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def refused(cwd: Path, *selectors: str, says: str, hint: str = "", add: Mapping[str, str] | None = None) -> None:
    """Neither `exec` nor `env` goes on, and both say why and what to do."""
    trace = cwd / "the-command-ran"
    for arguments in (
        ("exec", *selectors, "--", "touch", str(trace)),
        ("env", *selectors),
        ("env", *selectors, "--format", "json"),
    ):
        result = provisioner(cwd, *arguments, add=add)
        assert result.returncode == 3, (arguments, result)
        assert result.stdout == ""
        assert says in result.stderr
        assert hint in result.stderr
        assert result.stderr.count("\n") == 1
    assert not trace.exists()


def test_a_detached_head(repo: Path) -> None:
    git(repo, "switch", "-q", "--detach")
    refused(repo, says="HEAD is detached", hint="--branch NAME")


def test_an_unborn_branch(repo: Path) -> None:
    git(repo, "switch", "-q", "--orphan", "empty")
    refused(repo, says="'empty' has no commit yet", hint="Commit something")


@pytest.mark.parametrize(
    "selectors",
    [
        ("--branch", "nowhere"),
        ("--timeline", "git-branch/nowhere"),
        ("--timeline", "git-branch/main"),
        ("--timeline", "login"),
        ("--revision", "0123456789"),
        ("--branch", "LOGIN"),
        ("--branch", "login/"),
    ],
)
def test_a_timeline_that_is_not_there(repo: Path, selectors: tuple[str, str]) -> None:
    refused(repo, *selectors, says="no timeline", hint="provisioner timeline list")


def test_an_unregistered_repository(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    refused(other, says="is not registered", hint="provisioner init")


def test_another_repository_says_nothing_about_an_apps_branch(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    refused(other, "--app", "shop", says="is not a checkout of app 'shop'", hint="--branch NAME")
    ok(other, "exec", "--app", "shop", "--branch", "login", "--", "true")


def test_no_repository_and_no_such_app(repo: Path, tmp_path: Path) -> None:
    refused(tmp_path, says="is not in a git repository", hint="--app APP")
    refused(repo, "--app", "nope", says="no app named 'nope'", hint="app list")


def test_no_home(tmp_path: Path, home: Path) -> None:
    refused(repository(tmp_path / "shop"), says="no registry", hint="provisioner init")


def test_an_app_without_an_instance(repo: Path) -> None:
    ok(repo, "unassign", "default", "--yes")
    refused(repo, says="no database instance assigned", hint="provisioner assign")


def test_a_database_archived_by_hand(repo: Path) -> None:
    ok(repo, "database", "archive", database_of(repo, "git-branch/login")["name"], "--yes")
    refused(repo, "--branch", "login", says="was archived by hand", hint="database recover")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CI_COMMIT_REF_NAME": "main", "CI_MERGE_REQUEST_IID": "7"}, "merge request"),
        ({"GITHUB_HEAD_REF": "main", "GITHUB_REF_NAME": "7/merge"}, "merge request"),
        ({"CHANGE_BRANCH": "main", "CHANGE_ID": "7", "BRANCH_NAME": "PR-7"}, "merge request"),
        ({"BUILDKITE_BRANCH": "main", "BUILDKITE_PULL_REQUEST": "7"}, "merge request"),
        ({"CI_COMMIT_TAG": "main", "CI_COMMIT_REF_NAME": "main"}, "a tag"),
        ({"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "main"}, "a tag"),
        ({"CI_COMMIT_BRANCH": "main", "BRANCH_NAME": "login"}, "disagree"),
    ],
)
def test_what_a_ci_system_says_of_a_detached_checkout(repo: Path, variables: dict[str, str], says: str) -> None:
    git(repo, "switch", "-q", "--detach")
    refused(repo, says=says, hint="--branch NAME", add=variables)


def test_a_checked_out_tag(repo: Path) -> None:
    git(repo, "tag", "main-1")
    git(repo, "checkout", "-q", "main-1")
    refused(repo, says="HEAD is detached")


def test_a_missing_file(repo: Path) -> None:
    os.unlink(database_of(repo, "production")["path"])
    refused(repo, says="cannot be opened: No such file", hint="database show")


def test_a_file_of_garbage(repo: Path) -> None:
    Path(database_of(repo, "production")["path"]).write_bytes(b"garbage" * 1000)
    refused(repo, says="is not an SQLite database", hint="database show")


def test_an_instance_that_cannot_be_used(repo: Path, home: Path) -> None:
    live = home / "instances" / "default" / "live"
    shutil.move(live, live.with_name("elsewhere"))
    live.touch()
    add_branches(repo, "late")
    result = provisioner(repo, "reconcile")
    assert (result.returncode, result.stdout) == (1, "")
    assert "database fix --all" in result.stderr
    assert database_of(repo, "git-branch/late")["status"] == "error"
    refused(repo, "--branch", "late", says="failed: ", hint="database fix")

    live.unlink()
    shutil.move(live.with_name("elsewhere"), live)
    ok(repo, "database", "fix", "--all")
    assert set(statuses(repo).values()) == {"connected"}


@pytest.mark.parametrize("command", [("reconcile",), ("database", "fix", "--all")])
def test_lost_data_is_an_error_and_never_a_new_database(repo: Path, command: tuple[str, ...]) -> None:
    found = database_of(repo, "git-branch/login")
    put(found["path"], "precious")
    directory = Path(found["path"]).parent
    kept = directory.parent.parent / "kept"
    shutil.move(directory, kept)
    for _ in range(2):
        result = provisioner(repo, *command)
        assert (result.returncode, result.stdout) == (1, "")
        assert "its data is missing" in result.stderr
        assert not directory.exists()
        assert database_of(repo, "git-branch/login")["status"] == "error"
        refused(repo, "--branch", "login", says="its data is missing")
    ok(repo, "exec", "--", "true")

    shutil.move(kept, directory)
    ok(repo, *command)
    assert database_of(repo, "git-branch/login")["status"] == "connected"
    assert got(found["path"]) == "precious"


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 1000])
def test_a_broken_file_is_found_by_fix_and_kept(repo: Path, content: bytes | None) -> None:
    found = database_of(repo, "git-branch/login")
    path = Path(found["path"])
    good = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    result = provisioner(repo, "database", "fix", found["name"])
    assert (result.returncode, result.stdout) == (1, "")
    assert database_of(repo, "git-branch/login")["status"] == "error"
    assert (path.read_bytes() if path.exists() else None) == content
    path.write_bytes(good)
    ok(repo, "database", "fix", found["name"])
    ok(repo, "exec", "--branch", "login", "--", "true")


def test_a_read_only_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = shop(tmp_path / "shop")
        remount(disk, "ro")
        refused(repo, says="read-only file system", hint="remount,rw")
        result = provisioner(repo, "reconcile")
        assert (result.returncode, result.stdout) == (1, "")
        assert "read-only file system" in result.stderr
        remount(disk, "rw")
        ok(repo, "exec", "--", "true")


def test_a_locked_registry(repo: Path, home: Path) -> None:
    with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as holder:
        holder.execute("pragma locking_mode = exclusive")
        holder.execute("begin exclusive")
        holder.execute("update organization set slug = slug")
        result = provisioner(repo, "exec", "--", "echo", "ran")
        assert (result.returncode, result.stdout) == (3, "")
        assert "locked" in result.stderr
        assert "provisioner doctor" in result.stderr
    ok(repo, "exec", "--", "true")


def test_a_corrupt_registry(repo: Path, home: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (home / f"registry.db{suffix}").unlink(missing_ok=True)
    size = (home / "registry.db").stat().st_size
    (home / "registry.db").write_bytes(b"\xa5" * size)
    refused(repo, says="is corrupt", hint="backup")
    result = provisioner(repo, "database", "fix", "--all")
    assert (result.returncode, result.stdout) == (1, "")
    assert "corrupt" in result.stderr
