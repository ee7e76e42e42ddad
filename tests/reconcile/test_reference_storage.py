"""Repositories that keep no reflogs, that are mirrors, that were replaced, or that store refs in a reftable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from branch_oracle import use_reftable
from support import bare, files, git, got, ok, provisioner, put, repository

from provisioner.git import reflog

pytestmark = pytest.mark.slow


def held(repo: Path) -> dict[str, str]:
    return {name: got(file) for name, file in files(repo).items() if name != "main"}


def marked(repo: Path, name: str = "shop") -> Path:
    """Registered, with branches whose databases hold their names."""
    ok(repo, "init", "--no-hooks", "--name", name, "--grace", "0s")
    for name, file in files(repo).items():
        put(file, name)
    return repo


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return repository(tmp_path / "source", "a", "b")


@pytest.fixture
def hub(tmp_path: Path, source: Path) -> Path:
    """A registered bare repository without reflogs, which `source` pushes to."""
    return marked(bare(tmp_path / "hub.git", source))


def push(source: Path, *refs: str) -> None:
    git(source, "push", "-q", "--force", "hub", *refs)


def test_without_reflogs_a_branch_is_its_name(source: Path, hub: Path) -> None:
    push(source, ":refs/heads/a")
    git(source, "commit", "-q", "--allow-empty", "-m", "more")
    push(source, "main:refs/heads/a")
    ok(hub, "reconcile")
    assert held(hub) == {"a": "a", "b": "b"}, "deleted and pushed again, at another commit"


def test_doctor_says_how_renames_are_followed(hub: Path, shop: Path) -> None:
    said = provisioner(hub, "doctor").stdout
    assert "app shop renames: the repository keeps no reflogs" in said
    assert "app source renames: followed by links to the reflogs" in said


def test_a_rename_at_a_forge_is_a_deletion_and_a_new_branch(source: Path, hub: Path) -> None:
    push(source, "a:refs/heads/renamed", ":refs/heads/a")
    ok(hub, "reconcile")
    assert held(hub) == {"b": "b", "renamed": ""}
    push(source, "main:refs/heads/a")
    ok(hub, "reconcile")
    assert held(hub) == {"a": "a", "b": "b", "renamed": ""}


def test_a_mirror_that_is_fetched_follows_the_names_at_the_forge(tmp_path: Path, source: Path) -> None:
    git(tmp_path, "clone", "-q", "--mirror", source, "mirror.git")
    mirror = marked(tmp_path / "mirror.git")
    git(source, "branch", "-m", "a", "c")
    git(mirror, "fetch", "-q", "--prune")
    ok(mirror, "reconcile")
    assert held(mirror) == {"b": "b", "c": ""}
    git(source, "branch", "-m", "b", "a")
    git(mirror, "fetch", "-q", "--prune")
    ok(mirror, "reconcile")
    assert held(mirror) == {"a": "a", "c": ""}, "the data of a name comes back to it, and b's goes nowhere"


def test_a_mirror_that_replaces_the_repository_goes_by_the_names(tmp_path: Path, source: Path) -> None:
    git(tmp_path, "clone", "-q", "--mirror", source, "mirror.git")
    mirror = marked(tmp_path / "mirror.git")
    shutil.rmtree(mirror)
    git(source, "branch", "-m", "a", "c")
    git(tmp_path, "clone", "-q", "--mirror", source, "mirror.git")
    ok(mirror, "reconcile")
    assert held(mirror) == {"b": "b", "c": ""}


def test_a_mirror_that_replaces_a_repository_with_reflogs_gets_no_data_that_may_be_anothers(
    tmp_path: Path, source: Path
) -> None:
    git(tmp_path, "clone", "-q", source, "work")
    work = tmp_path / "work"
    for name in ("a", "b"):
        git(work, "branch", name, f"origin/{name}")
    marked(work)
    for step in (("a", "tmp"), ("b", "a"), ("tmp", "b")):
        git(work, "branch", "-m", *step)
    git(work, "push", "-q", "--force", "origin", "a", "b")
    shutil.rmtree(work / ".git")
    git(tmp_path, "clone", "-q", "--mirror", source, work / ".git")
    git(work, "config", "core.bare", "false")
    ok(work, "reconcile")
    assert {name: mark for name, mark in held(work).items() if mark} == {}
    assert provisioner(work, "exec", "--branch", "a", "--", "true").returncode == 3


# by plumbing, and from other worktrees


@pytest.fixture
def shop(source: Path) -> Path:
    return marked(source, "source")


@pytest.mark.parametrize("how", [(), ("--create-reflog",)])
@pytest.mark.parametrize("off", [(), ("-c", "core.logAllRefUpdates=false")])
def test_a_branch_that_plumbing_makes_is_a_new_one(shop: Path, how: tuple[str, ...], off: tuple[str, ...]) -> None:
    git(shop, *off, "update-ref", *how, "refs/heads/new", "a")
    git(shop, *off, "update-ref", "-d", "refs/heads/a")
    ok(shop, "reconcile")
    assert held(shop) == {"b": "b", "new": ""}
    git(shop, *off, "update-ref", *how, "refs/heads/a", "main")
    git(shop, "update-ref", "refs/heads/b", git(shop, "commit-tree", "HEAD^{tree}", "-m", "x").stdout.strip())
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "b": "b", "new": ""}


def test_a_transaction_of_plumbing_that_exchanges_commits_exchanges_no_data(shop: Path) -> None:
    git(shop, "branch", "-f", "a", git(shop, "commit-tree", "HEAD^{tree}", "-m", "x").stdout.strip())
    ok(shop, "reconcile")
    one, other = (git(shop, "rev-parse", name).stdout.strip() for name in ("a", "b"))
    git(shop, "update-ref", "--stdin", stdin=f"update refs/heads/a {other}\nupdate refs/heads/b {one}\n")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "b": "b"}


def test_a_symbolic_branch_has_data_of_its_own(shop: Path) -> None:
    git(shop, "symbolic-ref", "refs/heads/alias", "refs/heads/a")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "alias": "", "b": "b"}
    put(files(shop)["alias"], "alias")
    git(shop, "symbolic-ref", "refs/heads/alias", "refs/heads/b")
    git(shop, "branch", "-m", "a", "c")
    git(shop, "symbolic-ref", "refs/heads/a", "refs/heads/c")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "", "alias": "alias", "b": "b", "c": "a"}
    git(shop, "symbolic-ref", "-d", "refs/heads/alias")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "", "b": "b", "c": "a"}


def test_what_head_names_changes_nothing_about_branches(shop: Path) -> None:
    git(shop, "symbolic-ref", "HEAD", "refs/heads/unborn")
    ok(shop, "reconcile")
    git(shop, "symbolic-ref", "HEAD", "refs/heads/a")
    git(shop, "branch", "-m", "a", "c")
    ok(shop, "reconcile")
    assert held(shop) == {"b": "b", "c": "a"}


def test_a_branch_is_renamed_while_another_worktree_has_it(shop: Path) -> None:
    tree = shop.parent / "tree"
    git(shop, "worktree", "add", "-q", tree, "a")
    git(shop, "branch", "-m", "a", "c")
    git(shop, "branch", "a")
    assert ok(tree, "exec", "--", "printenv", "DENO_TIMELINE").strip() == "git-branch/c"
    assert held(shop) == {"a": "", "b": "b", "c": "a"}
    git(tree, "checkout", "-q", "--detach")
    assert provisioner(tree, "exec", "--", "true").returncode == 3
    shutil.rmtree(tree)
    git(shop, "worktree", "prune")
    git(shop, "worktree", "add", "-q", "-b", "d", tree, "c")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "", "b": "b", "c": "a", "d": ""}


# in a reftable


def test_git_says_of_one_branch_what_its_log_holds(source: Path) -> None:
    common = os.fsencode(source / ".git")
    git(source, "branch", "new")
    git(source, "branch", "-m", "new", "c/d")
    of_files = reflog.read_log(common, b"c/d")
    of_git = reflog._logs_of_git(common, b"refs/heads/c/d", b"--")[b"c/d"]
    assert of_git == of_files
    assert of_git.begins
    assert reflog._logs_of_git(common, b"refs/heads/none", b"--") == {}


@pytest.fixture
def reftable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_reftable(monkeypatch)
    repo = marked(repository(tmp_path / "shop", "a", "b"))
    assert (repo / ".git/reftable").is_dir()
    return repo


def test_a_reftable_shows_renames(reftable: Path) -> None:
    for step in (("-m", "a", "tmp"), ("-m", "b", "a"), ("-m", "tmp", "b"), ("c",)):
        git(reftable, "branch", *step)
    ok(reftable, "reconcile")
    assert held(reftable) == {"a": "b", "b": "a", "c": ""}
    git(reftable, "pack-refs", "--all")
    git(reftable, "branch", "-M", "a", "c")
    ok(reftable, "reconcile")
    seen = {name: mark for name, mark in held(reftable).items() if mark}
    assert seen.items() <= {"b": "a", "c": "b"}.items(), "the log of what was overwritten is mixed with the other one"


def test_in_a_reftable_what_the_logs_do_not_show_is_no_branchs(reftable: Path) -> None:
    for step in (("-m", "a", "tmp"), ("-m", "b", "a"), ("-m", "tmp", "b")):
        git(reftable, "branch", *step)
    git(reftable, "reflog", "expire", "--expire=now", "--all")
    ok(reftable, "reconcile")
    assert held(reftable) == {}
    assert "app shop renames: known by the text of the reflogs" in provisioner(reftable, "doctor").stdout
    assert "git does not show whether" in ok(reftable, "status", "--branch", "a")
    assert provisioner(reftable, "exec", "--branch", "a", "--", "true").returncode == 3
