"""A file such as ``.env.local`` follows every change of what is in it, no matter what makes the change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from dotenv import dotenv_values
from support import daemon, git, ok, provisioner, repository, run, until


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    shop = repository(tmp_path / "shop", "login")
    (shop / ".gitignore").write_text(".env*\n")
    git(shop, "add", ".gitignore")
    git(shop, "commit", "-q", "-m", "ignore")
    git(shop, "branch", "-f", "login")
    ok(shop, "init", "--grace", "0s")
    ok(shop, "env", "--write", ".env.local")
    return shop


def timeline(top: Path) -> str | None:
    return dotenv_values(top / ".env.local").get("DENO_TIMELINE")


def without_hooks(shop: Path) -> None:
    """What husky does: from here on git looks for hooks in its directory."""
    (shop / ".husky/_").mkdir(parents=True)
    (shop / ".husky/_/.gitignore").write_text("*\n")
    git(shop, "config", "core.hooksPath", ".husky/_")


def test_a_new_branch_is_connected_once_its_pre_deploy_command_has_run(shop: Path) -> None:
    ok(shop, "app", "set", "--pre-deploy", "sleep 0.2")
    git(shop, "switch", "-q", "-c", "cart")
    until(lambda: timeline(shop) == "git-branch/cart")


def test_a_daemon_connects_it_as_well(shop: Path, home: Path) -> None:
    ok(shop, "app", "set", "--pre-deploy", "sleep 0.2")
    with daemon(home):
        git(shop, "switch", "-q", "-c", "cart")
        until(lambda: timeline(shop) == "git-branch/cart")


def test_a_daemon_follows_a_switch_of_which_no_hook_tells(shop: Path, home: Path) -> None:
    without_hooks(shop)
    with daemon(home):
        git(shop, "switch", "-q", "login")
        until(lambda: timeline(shop) == "git-branch/login")
        git(shop, "worktree", "add", "-q", "../other", "-b", "cart")
        until(lambda: timeline(shop.parent / "other") == "git-branch/cart")


@pytest.mark.parametrize("command", [("exec", "true"), ("reconcile",), ("var", "set", "A=1"), ("env",)])
def test_each_command_follows_a_switch_of_which_no_hook_tells(shop: Path, command: tuple[str, ...]) -> None:
    without_hooks(shop)
    git(shop, "switch", "-q", "login")
    assert timeline(shop) == "production"
    done = provisioner(shop, *command)
    assert timeline(shop) == "git-branch/login"
    assert ".env.local is connected to git-branch/login" in done.stderr


def test_exec_empties_the_file_where_the_branch_is_not_connected(shop: Path) -> None:
    without_hooks(shop)
    git(shop, "switch", "-q", "--detach")
    assert provisioner(shop, "exec", "true").returncode == 3
    assert timeline(shop) is None
    assert "# not connected: HEAD is detached" in (shop / ".env.local").read_text()


def test_hooks_are_put_back_where_git_looks_for_them(shop: Path) -> None:
    without_hooks(shop)
    git(shop, "switch", "-q", "login")
    assert "hooks are back" in provisioner(shop, "exec", "true").stderr
    git(shop, "switch", "-q", "main")
    assert timeline(shop) == "production"


def test_hooks_are_not_put_among_files_that_git_tracks(shop: Path) -> None:
    (shop / "githooks").mkdir()
    (shop / "githooks/pre-commit").write_text("#!/bin/sh\n")
    git(shop, "add", "githooks")
    git(shop, "commit", "-q", "-m", "hooks of ours", add={"PROVISIONER_SKIP": "1"})  # which would start a worker
    git(shop, "config", "core.hooksPath", "githooks")
    git(shop, "switch", "-q", "--force", "-c", "cart")
    told = provisioner(shop, "exec", "true").stderr
    assert "git does not run provisioner's hooks" in told
    assert "provisioner hooks install" in told
    assert git(shop, "status", "--porcelain").stdout == ""


def test_variables_that_are_set_and_unset_are_in_the_file_of_every_worktree(shop: Path) -> None:
    git(shop, "worktree", "add", "-q", "../other", "login")
    for directory in (shop, shop.parent):  # from the checkout, and from elsewhere
        ok(directory, "var", "set", "--app", "shop", "COLOUR=red")
        for top in (shop, shop.parent / "other"):
            assert dotenv_values(top / ".env.local")["COLOUR"] == "red"
        ok(directory, "var", "unset", "--yes", "--app", "shop", "COLOUR")
        for top in (shop, shop.parent / "other"):
            assert "COLOUR" not in dotenv_values(top / ".env.local")


def test_what_replaces_or_archives_a_database_changes_the_file(shop: Path) -> None:
    git(shop, "switch", "-q", "login")
    before = dotenv_values(shop / ".env.local")["DENO_KV_DEFAULT_PATH"]
    ok(shop, "database", "reset", "--yes")
    assert dotenv_values(shop / ".env.local")["DENO_KV_DEFAULT_PATH"] != before
    ok(shop, "unassign", "--yes", "default")
    assert timeline(shop) is None
    ok(shop, "assign", "default")
    assert timeline(shop) == "git-branch/login"


def test_a_removed_app_leaves_no_credentials_behind(shop: Path) -> None:
    git(shop, "worktree", "add", "-q", "../other", "login")
    (shop.parent / "other/.env.local").write_text("MINE=1\n" + (shop.parent / "other/.env.local").read_text())
    ok(shop, "app", "remove", "--yes")
    assert not (shop / ".env.local").exists()
    assert (shop.parent / "other/.env.local").read_text() == "MINE=1\n"
    ok(shop, "init", "--name", "shop")
    git(shop, "switch", "-q", "-c", "cart")
    assert not (shop / ".env.local").exists(), "it is kept up again only when that is asked for"


def test_a_clone_of_a_registered_repository_has_its_file_kept_up_too(tmp_path: Path, home: Path) -> None:
    repository(tmp_path / "work", "login")
    git(tmp_path, "clone", "-q", "--bare", "work", "shop.git")
    ok(tmp_path / "shop.git", "init", "--name", "shop")
    git(tmp_path, "clone", "-q", "shop.git", "clone")
    clone = tmp_path / "clone"
    ok(clone, "env", "--write", ".env.local")
    ok(tmp_path, "var", "set", "--app", "shop", "COLOUR=red")
    assert dotenv_values(clone / ".env.local")["COLOUR"] == "red"


def test_a_file_that_says_what_is_true_is_not_touched(shop: Path) -> None:
    before = (shop / ".env.local").stat()
    time.sleep(0.01)
    assert ok(shop, "exec", "echo", "ran") == "ran\n"
    assert provisioner(shop, "status").stderr == ""
    assert (shop / ".env.local").stat() == before


def test_the_server_that_comes_and_goes_changes_the_file(shop: Path, home: Path) -> None:
    path = dotenv_values(shop / ".env.local")["DENO_KV_DEFAULT_PATH"]
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        until(lambda: str(dotenv_values(shop / ".env.local")["DENO_KV_DEFAULT_PATH"]).startswith("http"))
    until(lambda: dotenv_values(shop / ".env.local")["DENO_KV_DEFAULT_PATH"] == path)


def test_a_link_to_a_tracked_file_gets_no_credentials(shop: Path) -> None:
    (shop / "config.env").write_text("A=1\n")
    git(shop, "add", "config.env")
    git(shop, "commit", "-q", "-m", "config")
    (shop / ".env.local").unlink()
    (shop / ".env.local").symlink_to("config.env")
    refused = provisioner(shop, "env", "--write", ".env.local")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "tracked by git (it links to config.env)" in refused.stderr
    switched = git(shop, "switch", "-q", "-c", "cart")
    assert "IS LEFT AS IT WAS" in switched.stderr
    assert git(shop, "diff", "--", "config.env").stdout == ""


def test_a_tracked_file_gets_no_credentials(shop: Path) -> None:
    (shop / "env.txt").write_text("A=1\n")
    git(shop, "add", "env.txt")
    refused = provisioner(shop, "env", "--write", "env.txt")
    assert (refused.returncode, "env.txt is tracked by git" in refused.stderr) == (2, True)
    assert (shop / "env.txt").read_text() == "A=1\n"


def test_a_file_that_git_does_not_ignore_is_written_with_a_warning(shop: Path) -> None:
    done = provisioner(shop, "env", "--write", "settings.env")
    assert done.returncode == 0
    assert "git does not ignore it. Ignore it: echo '/settings.env' >> .gitignore" in done.stderr
    assert "ignore" not in provisioner(shop, "env", "--write", ".env.local").stderr
    assert "git does not ignore it" in git(shop, "switch", "-q", "-c", "cart").stderr


def test_another_home_changes_no_file_of_this_one(shop: Path, tmp_path: Path) -> None:
    before = (shop / ".env.local").read_bytes()
    run(shop, "provisioner", "status", "--all", add={"PROVISIONER_HOME": str(tmp_path / "elsewhere")})
    assert (shop / ".env.local").read_bytes() == before
