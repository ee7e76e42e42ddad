"""An app has a repository, not a path: one that was moved, copied, swapped or replaced gets no other one's data."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import bare, commit, daemon, events, files, git, got, ok, provisioner, put, repository, statuses, until


def app_of(path: Path) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(ok(path, "app", "show", "--json"))
    return shown


def shop(path: Path, *options: str) -> Path:
    """A registered repository whose databases hold their branches and the app's name."""
    repo = repository(path, "login")
    commit(repo, f"of {path.name}")
    git(repo, "branch", "-f", "login")
    ok(repo, "init", "--grace", "0s", "--name", path.name, *(options or ("--no-hooks",)))
    for name, file in files(repo).items():
        put(file, f"{path.name} {name}")
    return repo


def data(name: str) -> dict[str, str]:
    """What the databases of an app hold, wherever its repository is."""
    listed = json.loads(ok(Path("/"), "database", "list", "--app", name, "--json"))
    return {row["timeline"]: got(row["path"]) for row in listed if row["status"] == "connected"}


def refused(cwd: Path, *words: str) -> str:
    done = provisioner(cwd, *words)
    assert done.returncode == 3, done
    assert done.stdout == ""
    return done.stderr


PRECIOUS = {"production": "shop main", "git-branch/login": "shop login"}


@pytest.mark.parametrize("hooks", [(), ("--retention", "8d")], ids=["without hooks", "with hooks"])
def test_repositories_that_swapped_places_do_not_swap_their_data(
    tmp_path: Path, home: Path, hooks: tuple[str, ...]
) -> None:
    one, other = shop(tmp_path / "shop", *hooks), shop(tmp_path / "blog", *hooks)
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    for place, app in ((one, "shop"), (other, "blog")):
        for words in (("exec", "--", "true"), ("env",), ("reconcile",), ("kv", "get", '["a"]'), ("hooks", "install")):
            assert f"not of '{app}'" in refused(place, *words)
        assert f"provisioner app set {app} --repository PATH" in refused(
            place, "exec", "--branch", "login", "--", "true"
        )
    assert "not of 'shop'" in refused(tmp_path, "exec", "--app", "shop", "--branch", "login", "--", "true")
    assert provisioner(tmp_path, "doctor").returncode == 1
    assert events(home, "database.archive") == []

    assert "App blog now has its repository in" in ok(tmp_path, "app", "set", "shop", "--repository", str(other))
    assert app_of(other)["app"] == "shop"
    assert app_of(one)["app"] == "blog"
    assert data("shop") == PRECIOUS
    assert {name: got(file) for name, file in files(other).items()} == {"main": "shop main", "login": "shop login"}
    assert {name: got(file) for name, file in files(one).items()} == {"main": "blog main", "login": "blog login"}
    path = ok(one, "exec", "--branch", "login", "--", "printenv", "DENO_KV_DEFAULT_PATH").strip()
    assert got(path) == "blog login"


def test_another_repository_at_the_path_gets_nothing(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop", "--retention", "8d")
    shutil.rmtree(repo)
    repository(repo, "login")
    for words in (
        ("exec", "--", "true"),
        ("exec", "--app", "shop", "--timeline", "production", "--", "true"),
        ("env",),
        ("reconcile",),
        ("init", "--no-hooks"),
        ("status", "--branch", "login"),
        ("hooks", "install"),
    ):
        assert "has none of the history of app 'shop'" in refused(repo, *words), words
    assert provisioner(repo, "env", "--write", ".env.local").returncode == 3
    assert data("shop") == PRECIOUS
    assert events(home, "database.archive") == []
    assert "none of the history" in provisioner(repo, "doctor").stdout

    ok(repo, "app", "remove", "shop", "--yes")
    assert not (repo / ".git/hooks/post-checkout").exists()
    ok(repo, "init", "--no-hooks")
    assert {name: got(file) for name, file in files(repo).items()} == {"main": "", "login": ""}


def test_one_that_a_person_says_is_the_apps_is_taken(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    new = repository(tmp_path / "new", "login")
    unsure = provisioner(repo, "app", "set", "shop", "--repository", str(new))
    assert unsure.returncode == 1
    assert "none of the history" in unsure.stderr
    assert app_of(repo)["app"] == "shop"
    ok(repo, "app", "set", "shop", "--repository", str(new), "--yes")
    assert {name: got(file) for name, file in files(new).items()} == {"main": "shop main", "login": "shop login"}
    assert "is not registered" in refused(repo, "exec", "--", "true")


def test_a_repository_of_the_same_beginning_is_another_one(tmp_path: Path) -> None:
    template = repository(tmp_path / "template")
    git(tmp_path, "clone", "-q", "template", "shop")
    repo = tmp_path / "shop"
    git(repo, "remote", "remove", "origin")
    commit(repo, "of the shop")
    ok(repo, "init", "--no-hooks")
    shutil.rmtree(repo)
    git(tmp_path, "clone", "-q", "template", "shop")
    commit(repo, "of the blog")
    assert "none of the history" in refused(repo, "exec", "--", "true")
    assert template.exists()


@pytest.mark.parametrize("lost", ["the id", "the repository"])
def test_one_without_an_id_is_known_by_its_history(tmp_path: Path, lost: str) -> None:
    repo = shop(tmp_path / "shop")
    if lost == "the id":
        shutil.rmtree(repo / ".git/provisioner")
    else:
        git(tmp_path, "clone", "-q", "--bare", "shop", "origin.git")
        shutil.rmtree(repo)
        git(tmp_path, "clone", "-q", "origin.git", "shop")
        git(repo, "branch", "login", "origin/login")
        commit(repo, "more")
    path = ok(repo, "exec", "--branch", "login", "--", "printenv", "DENO_KV_DEFAULT_PATH").strip()
    assert got(path) == "shop login"
    assert data("shop") == PRECIOUS
    assert app_of(repo)["id"] in (repo / ".git/provisioner/app").read_text().split("\n")


def test_the_id_decides_against_the_history(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    (repo / ".git/provisioner/app").write_text("00000000-0000-0000-0000-000000000000\n")
    assert "is registered as another app" in refused(repo, "exec", "--", "true")
    ok(repo, "app", "set", "shop", "--repository", str(repo))
    assert provisioner(repo, "exec", "--", "true").returncode == 0


def test_one_that_was_moved_says_so_and_is_followed_when_a_person_says_it(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    moved = repo.rename(tmp_path / "moved")
    for words in (("exec", "--", "true"), ("init", "--no-hooks"), ("reconcile",)):
        said = refused(moved, *words)
        assert f"has moved from {repo}/.git to {moved}/.git" in said
        assert f"provisioner app set shop --repository {moved}/.git" in said
    git(moved, "branch", "-m", "login", "renamed")
    ok(tmp_path, "app", "set", "shop", "--repository", str(moved))
    assert {name: got(file) for name, file in files(moved).items()} == {"main": "shop main", "renamed": "shop login"}


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_is_an_app_of_its_own_or_nothing(tmp_path: Path, home: Path, links: bool) -> None:
    repo = shop(tmp_path / "shop", "--retention", "8d")
    copy = tmp_path / "copy"
    git(tmp_path, "--version")
    os.system(f"cp -a {'' if links else '--no-preserve=links'} {repo} {copy}")
    for words in (("exec", "--", "true"), ("env",), ("reconcile",)):
        assert "is a copy of the repository of app 'shop'" in refused(copy, *words)
    git(copy, "branch", "-D", "login")
    git(copy, "branch", "only-here")
    assert provisioner(repo, "reconcile").returncode == 0
    assert data("shop") == PRECIOUS

    ok(copy, "init", "--no-hooks")
    assert app_of(copy)["id"] != app_of(repo)["id"]
    assert {name: got(file) for name, file in files(copy).items()} == {"main": "", "only-here": ""}
    assert {name: got(file) for name, file in files(repo).items()} == {"main": "shop main", "login": "shop login"}
    assert app_of(repo)["id"] not in (copy / ".git/provisioner/app").read_text()
    assert events(home, "database.archive") == []


@pytest.mark.parametrize("beside", ["a daemon", "no daemon"])
def test_a_push_to_a_copy_is_told_so_and_changes_nothing(tmp_path: Path, home: Path, beside: str) -> None:
    clone = repository(tmp_path / "clone")
    hub = bare(tmp_path / "hub.git", clone)
    ok(hub, "init", "--grace", "0s")
    copy = tmp_path / "copy.git"
    shutil.copytree(hub, copy, symlinks=True)

    def push() -> None:
        said = git(clone, "push", str(copy), "main:login").stderr
        assert f"remote: provisioner: {copy} is a copy of the repository of app 'hub' in {hub}" in said
        git(copy, "update-ref", "-d", "refs/heads/login")

    if beside == "a daemon":
        with daemon(home):
            until(lambda: provisioner(hub, "reconcile").returncode == 0)
            push()
    else:
        push()
    assert statuses(hub) == {"production": "connected"}
    assert "git-branch/login connected" in git(clone, "push", "hub", "main:login").stderr


def test_a_daemon_leaves_the_data_alone_when_repositories_swap_places(tmp_path: Path, home: Path) -> None:
    one, other = shop(tmp_path / "shop"), shop(tmp_path / "blog")
    with daemon(home) as running:
        one.rename(tmp_path / "aside")
        other.rename(one)
        (tmp_path / "aside").rename(other)
        git(one, "branch", "new")
        git(other, "branch", "-D", "login")
        until(lambda: "is that of app" in running.log.read_text())
        assert data("shop") == PRECIOUS
        ok(tmp_path, "app", "set", "shop", "--repository", str(other))
        until(lambda: set(data("blog")) == {"production", "git-branch/login", "git-branch/new"})
        until(lambda: set(data("shop")) == {"production"})
    assert data("blog")["git-branch/login"] == "blog login"


def test_two_homes_may_have_one_repository(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop")
    second = {"PROVISIONER_HOME": str(tmp_path / "second")}
    ok(repo, "init", "--no-hooks", add=second)
    git(repo, "branch", "-m", "login", "renamed")
    for add in (None, second):
        assert provisioner(repo, "exec", "--branch", "renamed", "--", "true", add=add).returncode == 0
    assert got(files(repo)["renamed"]) == "shop login"
    ok(repo, "app", "remove", "shop", "--yes", add=second)
    assert provisioner(repo, "exec", "--branch", "renamed", "--", "true").returncode == 0
    ok(repo, "app", "remove", "shop", "--yes")
    assert not (repo / ".git/provisioner").exists()


def test_a_removed_app_comes_back_in_its_own_repository_only(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    ok(repo, "app", "remove", "shop", "--yes")
    repo.rename(tmp_path / "aside")
    repository(repo, "login")
    ok(repo, "init", "--no-hooks")
    assert {name: got(file) for name, file in files(repo).items()} == {"main": "", "login": ""}
    other = shop(tmp_path / "blog")
    ok(other, "app", "remove", "blog", "--yes")
    ok(other, "init", "--no-hooks")
    assert {name: got(file) for name, file in files(other).items()} == {"main": "blog main", "login": "blog login"}


def test_worktrees_and_clones_are_checked_by_the_repository_they_belong_to(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    git(repo, "worktree", "add", "-q", "../tree", "login")
    assert provisioner(tmp_path / "tree", "exec", "--", "true").returncode == 0
    git(tmp_path, "clone", "-q", "shop", "clone")
    assert provisioner(tmp_path / "clone", "exec", "--", "true").returncode == 0
    repo.rename(tmp_path / "aside")
    repository(repo)
    assert "none of the history" in refused(tmp_path / "clone", "exec", "--", "true")


def test_a_submodule_is_a_repository_like_any_other(tmp_path: Path) -> None:
    library = repository(tmp_path / "library")
    repo = repository(tmp_path / "outer")
    git(repo, "submodule", "--quiet", "add", str(library), "inner")
    ok(repo / "inner", "init", "--no-hooks", "--name", "inner")
    assert provisioner(repo / "inner", "exec", "--", "true").returncode == 0
    assert app_of(repo / "inner")["id"] in (repo / ".git/modules/inner/provisioner/app").read_text()


def test_an_app_that_was_registered_before_its_first_commit_is_found_after_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "shop")
    repo = tmp_path / "shop"
    ok(repo, "init", "--no-hooks")
    shutil.rmtree(repo / ".git/provisioner")
    commit(repo, "first")
    ok(repo, "reconcile")
    assert set(files(repo)) == {"main"}
