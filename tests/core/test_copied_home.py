"""A home that was moved, copied or restored does nothing until its operator has said which, and a copy never works on the
original."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from home_world import at, contents, copy, edit_identity, photograph, restore
from old_home import back_to_version_22
from support import add_branches, daemon, files, git, got, marked_shop, ok, provisioner, put, rows, shop, statuses

from provisioner.kv import open_kv
from provisioner.kv.errors import AccessDenied

KEY = '["price"]'
EVERY_COMMAND = (
    ("exec", "--branch", "login", "--", "echo", "ran"),
    ("env", "--branch", "login"),
    ("kv", "set", "--branch", "login", KEY, "1"),
    ("kv", "get", "--branch", "login", KEY),
    ("init",),
    ("init", "--no-hooks"),
    ("reconcile", "--all"),
    ("watch",),
    ("serve", "--port", "0"),
    ("up", "--port", "0"),
    ("dashboard", "--print"),
    ("status",),
    ("hooks", "install"),
    ("hooks", "uninstall"),
    ("app", "set", "--grace", "1s"),
    ("app", "remove", "--yes"),
    ("database", "reset", "login", "--yes"),
    ("database", "archive", "shop", "--yes"),
    ("database", "snapshot", "create", "login"),
    ("instance", "add", "more"),
    ("instance", "start", "default"),
    ("instance", "test", "default"),
    ("prune", "--yes"),
    ("token", "create", "--admin"),
    ("token", "rotate-key", "--yes"),
    ("home", "copy", "-o", "copied"),
    ("home", "follow", "--once", "--", "true"),
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = marked_shop(tmp_path / "shop", "login")
    (repo / ".gitignore").write_text(".env.local\n")
    ok(repo, "env", "--write", ".env.local")
    return repo


SOME = tuple(words for words in EVERY_COMMAND if words[0] in ("exec", "env", "kv", "reconcile", "watch", "dashboard"))


def _refuses(
    repo: Path, home: Path, *unchanged: Path, next_step: str, commands: tuple[tuple[str, ...], ...] = SOME
) -> None:
    """Commands fail closed with exit code 3 and the next step; no file is changed, neither here nor there."""
    before = photograph(home, repo, *unchanged)
    for words in commands:
        done = provisioner(repo, *words)
        assert (done.returncode, done.stdout) == (3, ""), (words, done)
        assert next_step in done.stderr, (words, done)
    done = provisioner(repo, "doctor")
    assert done.returncode == 1
    assert next_step in done.stdout
    assert photograph(home, repo, *unchanged) == before


@pytest.mark.parametrize("beside", ["without a daemon", "with a daemon"])
def test_a_copied_home_does_nothing_to_the_original(repo: Path, home: Path, tmp_path: Path, beside: str) -> None:
    if beside == "with a daemon":
        with daemon(home):
            copied = copy(home, tmp_path / "copy")
    else:
        copied = copy(home, tmp_path / "copy")
    with at(copied):
        commands = EVERY_COMMAND if beside == "without a daemon" else SOME
        _refuses(repo, copied, home, next_step="provisioner home adopt --copied", commands=commands)
        assert json.loads(ok(repo, "home", "show", "--json"))["state"] == "copied"
    assert statuses(repo) == {"production": "connected", "git-branch/login": "connected"}


def test_a_moved_home_does_nothing_until_it_is_adopted(repo: Path, home: Path, tmp_path: Path) -> None:
    ok(repo, "hooks", "install")
    new = home.rename(tmp_path / "new")
    with at(new):
        _refuses(repo, new, next_step="provisioner home adopt --moved")
        told = ok(repo, "home", "adopt", "--moved")
        assert "updated the hooks" in told
        assert {branch: got(file) for branch, file in files(repo).items()} == {
            "main": "production",
            "login": "git-branch/login",
        }
        assert all(file.is_relative_to(new) for file in files(repo).values())
        ok(repo, "hooks", "status")
        git(repo, "switch", "-qc", "more")
        assert ok(repo, "exec", "--", "printenv", "DENO_TIMELINE") == "git-branch/more\n"
        assert str(new) in (repo / ".env.local").read_text()
        ok(repo, "doctor")
        again = provisioner(repo, "home", "adopt", "--moved")
        assert (again.returncode, "where it was created" in again.stderr) == (2, True)
    assert not home.exists()


@pytest.mark.parametrize("how", ["another disk", "another machine", "no identity", "half an identity"])
def test_a_restored_home_does_nothing_until_it_is_adopted(repo: Path, home: Path, how: str) -> None:
    if how == "another disk":
        restore(home)
    elif how == "another machine":
        edit_identity(home, 3, "0" * 32)
    elif how == "no identity":
        (home / "identity").unlink()
    else:
        (home / "identity").write_bytes((home / "identity").read_bytes()[:20])
    if how == "another machine" and not os.path.exists("/etc/machine-id"):
        pytest.skip("this system gives no id to the machine")
    _refuses(repo, home, next_step="provisioner home adopt --moved")
    before = json.loads(ok(repo, "home", "show", "--json"))
    assert before["state"] == ("unknown" if "identity" in how else "restored")
    ok(repo, "home", "adopt", "--moved")
    assert got(files(repo)["login"]) == "git-branch/login"
    after = json.loads(ok(repo, "home", "show", "--json"))
    assert after["state"] == "here"
    assert before["id"] in (None, after["id"])


def test_another_name_of_the_same_directory_is_no_other_home(repo: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    with at(tmp_path / "link"):
        assert statuses(repo)["production"] == "connected"
        ok(repo, "exec", "--branch", "login", "--", "true")
        add_branches(repo, "more")
        ok(repo, "reconcile")
    assert statuses(repo)["git-branch/more"] == "connected"


def test_a_copy_becomes_a_home_of_its_own(repo: Path, home: Path, tmp_path: Path) -> None:
    ok(repo, "hooks", "install")
    token = json.loads(ok(repo, "token", "create", "--admin", "--json"))["token"]
    original = json.loads(ok(repo, "home", "show", "--json"))["id"]
    copied = copy(home, tmp_path / "copy")
    before = photograph(home, repo)
    with at(copied):
        told = ok(repo, "home", "adopt", "--copied")
        assert "provisioner app set shop --repository PATH" in told
        ok(repo, "doctor")
        unregistered = provisioner(repo, "exec", "--", "true")
        assert (unregistered.returncode, "not registered" in unregistered.stderr) == (3, True)
        selected = ("--app", "shop", "--branch", "login")
        path = ok(tmp_path, "exec", *selected, "--", "printenv", "DENO_KV_DEFAULT_PATH").strip()
        assert Path(path).is_relative_to(copied)
        assert got(path) == "git-branch/login"
        put(path, "the copy's", b"other")
        assert token not in ok(tmp_path, "token", "list")
        assert "revoked" in ok(tmp_path, "token", "list")
        failed = provisioner(tmp_path, "reconcile", "--all")
        assert "--repository" in failed.stderr
        with daemon(copied) as running:
            assert running.stop() == 0
        assert photograph(home, repo) == before
        assert json.loads(ok(repo, "home", "show", "--json"))["id"] != original
        clone = tmp_path / "clone"
        git(tmp_path, "clone", "-q", repo, clone)
        git(clone, "branch", "login", "origin/login")
        ok(clone, "app", "set", "shop", "--repository", clone)
        ok(clone, "init")
        git(clone, "branch", "theirs")
        ok(clone, "reconcile")
        assert got(files(clone)["login"]) == "git-branch/login"
        ok(clone, "app", "remove", "--yes")
    assert photograph(home, repo) == before
    ok(repo, "hooks", "status")


def test_a_copy_that_is_registered_for_the_originals_repository_leaves_its_hooks(
    repo: Path, home: Path, tmp_path: Path
) -> None:
    ok(repo, "hooks", "install")
    copied = copy(home, tmp_path / "copy")
    before, held = photograph(home), contents(repo)
    with at(copied):
        ok(repo, "home", "adopt", "--copied")
        told = provisioner(repo, "init")
        assert "installed for another home" in told.stderr
        assert Path(str(files(repo)["login"])).is_relative_to(copied)
        ok(repo, "hooks", "uninstall")
        ok(repo, "app", "remove", "--yes")
    assert (photograph(home), contents(repo)) == (before, held)


def test_a_copy_claims_none_of_the_originals_domains(repo: Path, home: Path, tmp_path: Path) -> None:
    ok(repo, "app", "run", "--command", "exec python3 server.py")
    ok(repo, "app", "domain", "add", "www.shop.test", "--branch", "login", "--trust")
    copied = copy(home, tmp_path / "copy")
    with at(copied):
        ok(repo, "home", "adopt", "--copied")
        assert json.loads(ok(repo, "app", "domain", "list", "--app", "shop", "--json")) == []
    (there,) = json.loads(ok(repo, "app", "domain", "list", "--json"))
    assert there["routed"]


def test_what_a_home_stores_elsewhere_stays_with_the_original(repo: Path, home: Path, tmp_path: Path) -> None:
    ok(repo, "instance", "add", "far", "--directory", tmp_path / "far")
    ok(repo, "assign", "far", "shop")
    ok(repo, "database", "snapshot", "create", "login", "--instance", "far")
    inside = {row["instance"] for row in rows(repo)}
    assert inside == {"default", "far"}
    copied = copy(home, tmp_path / "copy")
    before = photograph(home, tmp_path / "far")
    with at(copied):
        told = ok(repo, "home", "adopt", "--copied")
        assert f"2 databases of far stay with the original, in {tmp_path / 'far'}" in told
        assert [each["instance"] for each in json.loads(ok(repo, "instance", "list", "--json"))] == ["default"]
        ok(repo, "init", "--no-hooks")
        assert {row["instance"] for row in rows(repo)} == {"default"}
        with daemon(copied) as running:
            assert running.stop() == 0
        assert photograph(home, tmp_path / "far") == before
    assert {row["instance"] for row in rows(repo)} == {"default", "far"}


def test_a_copy_that_shares_files_with_the_original_is_refused(repo: Path, home: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(home, linked, symlinks=True, copy_function=os.link)
    before = photograph(home)
    with at(linked):
        refused = provisioner(repo, "home", "adopt", "--copied")
        assert (refused.returncode, "hard link" in refused.stderr) == (1, True)
    copied = copy(home, tmp_path / "copy")
    shutil.rmtree(copied / "instances")
    (copied / "instances").symlink_to(home / "instances")
    with at(copied):
        refused = provisioner(repo, "home", "adopt", "--copied")
        assert (refused.returncode, "leads out of the home" in refused.stderr) == (1, True)
    assert photograph(home) == before


def test_links_in_the_files_of_apps_keep_no_home_from_being_adopted(repo: Path, home: Path, tmp_path: Path) -> None:
    """Packages of an app are links into caches; they are not kept."""
    checkout = home / "work" / "deployment" / "checkout"
    checkout.mkdir(parents=True)
    (checkout / "out").symlink_to("/etc")
    (checkout / "one").write_text("")
    (checkout / "two").hardlink_to(checkout / "one")
    with at(copy(home, tmp_path / "copy")):
        ok(repo, "home", "adopt", "--copied")
    assert not (tmp_path / "copy" / "work" / "deployment").exists()


def test_a_copy_runs_no_hooks_of_operators(repo: Path, home: Path, tmp_path: Path) -> None:
    """They start and stop what runs beside the original."""
    said = tmp_path / "said"
    ok(repo, "app", "set", "--on-connected", f"cat >> {said}", "--on-gone", f"cat >> {said}")
    with at(copy(home, tmp_path / "copy")):
        ok(repo, "home", "adopt", "--copied")
        ok(repo, "init", "--no-hooks")
        git(repo, "branch", "later")
        ok(repo, "reconcile", "--all")
        assert not said.exists()
    git(repo, "branch", "latest")
    ok(repo, "reconcile")
    assert "git-branch/latest" in said.read_text()


def test_a_copy_is_not_adopted_as_moved_while_the_original_is_there(repo: Path, home: Path, tmp_path: Path) -> None:
    copied = copy(home, tmp_path / "copy")
    with at(copied):
        refused = provisioner(repo, "home", "adopt", "--moved")
        assert (refused.returncode, "--copied" in refused.stderr) == (1, True)
        assert provisioner(repo, "home", "adopt").returncode == 2
        shutil.rmtree(home)
        ok(repo, "home", "adopt", "--moved")
        assert got(files(repo)["login"]) == "git-branch/login"


def test_a_registry_of_another_home_is_refused(repo: Path, home: Path, tmp_path: Path) -> None:
    with at(tmp_path / "other"):
        shop(tmp_path / "shop2", "login")
        with closing(sqlite3.connect(tmp_path / "other" / "registry.db")) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        shutil.copy(home / "registry.db", tmp_path / "other" / "registry.db")
        for words in (("exec", "--branch", "login", "--", "echo", "ran"), ("reconcile",), ("status",)):
            refused = provisioner(repo, *words)
            assert (refused.returncode, refused.stdout) == (3, "")
            assert "the registry of another home" in refused.stderr


def _as_before_identities(home: Path, at: Path) -> None:
    """What the version before identities would have left there, of a home that was made at another path."""
    back_to_version_22(home / "registry.db")
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("update instance set location = ? || '/' || location", (str(at),))
        connection.execute("delete from _sqlite_migrations where name = '0014_relative_locations'")
        connection.execute("pragma user_version = 13")
    (home / "identity").unlink()


def test_a_home_of_an_older_version_gets_an_identity(repo: Path, home: Path) -> None:
    _as_before_identities(home, home)
    assert ok(repo, "exec", "--branch", "login", "--", "printenv", "DENO_TIMELINE") == "git-branch/login\n"
    assert got(files(repo)["login"]) == "git-branch/login"
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        assert connection.execute("select location from instance").fetchall() == [("instances/default",)]
        organization = connection.execute("select id from organization").fetchone()[0]
    assert json.loads(ok(repo, "home", "show", "--json"))["id"] == organization


@pytest.mark.parametrize("original", ["there", "gone"])
def test_a_copy_of_a_home_of_an_older_version_is_recognized(
    repo: Path, home: Path, tmp_path: Path, original: str
) -> None:
    _as_before_identities(home, home)
    copied = copy(home, tmp_path / "copy")
    if original == "gone":
        shutil.rmtree(home)
    with at(copied):
        for words in (("exec", "--branch", "login", "--", "true"), ("kv", "set", "--branch", "login", KEY, "1")):
            assert provisioner(repo, *words).returncode == 3
        before = photograph(home)
        if original == "gone":
            ok(repo, "home", "adopt", "--moved")
        else:
            ok(repo, "home", "adopt", "--copied")
            ok(repo, "init", "--no-hooks")
        assert got(files(repo)["login"]) == "git-branch/login"
        assert files(repo)["login"].is_relative_to(copied)
        assert photograph(home) == before


def test_nothing_that_opens_the_original_opens_the_copy(repo: Path, home: Path, tmp_path: Path) -> None:
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        given = json.loads(ok(repo, "env", "--format", "json"))
        admin = json.loads(ok(repo, "token", "create", "--admin", "--json"))["token"]
        copied = copy(home, tmp_path / "copy")
        with at(copied):
            assert provisioner(repo, "env").returncode == 3  # which the server of the original would have answered
            ok(repo, "home", "adopt", "--copied")
            with daemon(copied, "provisioner", "serve", "--port", "0", announced="server"):
                words = ("env", "--app", "shop", "--branch", "main", "--format", "json")
                theirs = json.loads(ok(tmp_path, *words))
                assert theirs["DENO_KV_DEFAULT_PATH"] != given["DENO_KV_DEFAULT_PATH"]
                for token in (given["DENO_KV_ACCESS_TOKEN"], admin):
                    with (
                        pytest.raises(AccessDenied),
                        open_kv(theirs["DENO_KV_DEFAULT_PATH"], access_token=token) as kv,
                    ):
                        kv.get(("price",))
                with open_kv(theirs["DENO_KV_DEFAULT_PATH"], access_token=theirs["DENO_KV_ACCESS_TOKEN"]) as kv:
                    kv.set(("price",), 1)
                    assert kv.get(("price",)).value == 1
        with open_kv(given["DENO_KV_DEFAULT_PATH"], access_token=given["DENO_KV_ACCESS_TOKEN"]) as kv:
            assert kv.get(("price",)).value is None
