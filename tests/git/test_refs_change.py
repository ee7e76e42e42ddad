"""However refs change and whoever notices: the connected timelines are the branches, and no live branch's data moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import (
    Setup,
    bare,
    branches,
    commit,
    connected,
    daemon,
    events,
    files,
    git,
    got,
    ok,
    provisioner,
    put,
    repository,
    status,
    until,
)

Marks = dict[str, str]
"""Branches with what their databases are to hold; empty for a new database."""


# in a local clone with the branches main, one and two, each of whose databases holds the branch's name

KEPT: Marks = {"main": "main", "one": "one", "two": "two"}


def create(clone: Path) -> Marks:
    git(clone, "branch", "new")
    return {**KEPT, "new": ""}


def switch(clone: Path) -> Marks:
    git(clone, "switch", "-q", "-c", "feature/a")
    commit(clone, "second")
    git(clone, "checkout", "-q", "-b", "feature.a")
    return {**KEPT, "feature/a": "", "feature.a": ""}


def worktree(clone: Path) -> Marks:
    git(clone, "worktree", "add", "-q", "-b", "linked", "../linked")
    git(clone.parent / "linked", "branch", "from-there")
    git(clone, "worktree", "remove", "../linked")
    git(clone, "branch", "-D", "one")
    return {"main": "main", "two": "two", "linked": "", "from-there": ""}


def rename(clone: Path) -> Marks:
    git(clone, "branch", "-m", "one", "renamed/one")
    return {"main": "main", "renamed/one": "one", "two": "two"}


def rename_over(clone: Path) -> Marks:
    git(clone, "branch", "-M", "one", "two")
    return {"main": "main", "two": "one"}


def recreate(clone: Path) -> Marks:
    git(clone, "branch", "-D", "one", "two")
    git(clone, "branch", "one")
    return {"main": "main", "one": "one"}


def pack(clone: Path) -> Marks:
    git(clone, "branch", "packed")
    git(clone, "pack-refs", "--all")
    git(clone, "gc", "-q")
    git(clone, "branch", "-D", "two")
    return {"main": "main", "one": "one", "packed": ""}


def update_ref(clone: Path) -> Marks:
    transaction = "start\ncreate refs/heads/three HEAD\ndelete refs/heads/one\nprepare\ncommit\n"
    git(clone, "update-ref", "--stdin", stdin=transaction)
    return {"main": "main", "two": "two", "three": ""}


def rebase(clone: Path) -> Marks:
    commit(clone, "upstream")
    git(clone, "switch", "-q", "one")
    git(clone, "commit", "-q", "--allow-empty", "-m", "mine")
    git(clone, "rebase", "-q", "--keep-empty", "main")
    return KEPT


def bisect(clone: Path) -> Marks:
    for number in range(4):
        commit(clone, f"step {number}")
    git(clone, "bisect", "start", "HEAD", "HEAD~4")
    git(clone, "bisect", "run", "true")
    git(clone, "bisect", "reset")
    git(clone, "branch", "fix", "HEAD~1")
    return {**KEPT, "fix": ""}


LOCAL = (create, switch, worktree, rename, rename_over, recreate, pack, update_ref, rebase, bisect)


@pytest.mark.parametrize("change", LOCAL, ids=lambda change: str(change.__name__))
def test_a_local_clone_is_followed_and_the_data_stays(
    setup: Setup, tmp_path: Path, change: Callable[[Path], Marks]
) -> None:
    clone = repository(tmp_path / "shop", "one", "two")
    setup.begin(clone)
    for branch, file in files(clone).items():
        put(file, branch)
    expected = change(clone)
    setup.settle(clone)
    # who looks in the middle of a rename may see the new branch before git has written why it is there
    until(lambda: {branch: got(file) for branch, file in files(clone).items()} == expected)


def test_a_bare_repository_is_followed(setup: Setup, tmp_path: Path) -> None:
    clone = repository(tmp_path / "clone")
    hub = bare(tmp_path / "hub.git", clone)
    setup.begin(hub)

    git(clone, "push", "-q", "hub", "main:login", "main:feature/a", "main:修正")
    setup.settle(hub)
    commit(clone, "second")
    git(clone, "push", "-q", "hub", "main:login")
    tip = git(clone, "rev-parse", "main").stdout.strip()
    if setup.name == "reconcile":
        setup.settle(hub)
    until(lambda: {row["branch"]: row["revision"] for row in status(hub)}["login"] == tip)
    git(clone, "push", "-q", "hub", ":login", "main:next")
    setup.settle(hub)
    git(clone, "branch", "mirrored")
    git(clone, "push", "-q", "--mirror", "hub")
    setup.settle(hub)
    assert connected(hub) == {"main", "mirrored"}


def test_a_mirror_that_is_fetched_into_is_followed(setup: Setup, tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", "one", "two")
    git(tmp_path, "clone", "-q", "--mirror", "origin", "mirror.git")
    mirror = tmp_path / "mirror.git"
    setup.begin(mirror)
    git(origin, "branch", "-D", "one")
    git(origin, "branch", "three")
    git(mirror, "fetch", "-q", "--prune")
    setup.settle(mirror)
    assert connected(mirror) == {"main", "two", "three"}


def test_packing_refs_archives_nothing(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", *(f"feature/{number}" for number in range(30)))
    ok(clone, "init", "--grace", "0s")
    commit(clone, "second")
    with daemon(home):
        for turn in range(30):
            target = "HEAD" if turn % 2 else "HEAD~1"
            moves = "".join(f"update refs/heads/feature/{number} {target}\n" for number in range(30))
            git(clone, "update-ref", "--stdin", stdin=moves)
            git(clone, "pack-refs", "--all")
            if turn % 10 == 9:
                git(clone, "gc", "-q")
            assert events(home, "database.archive") == []
        git(clone, "branch", "last")
        until(lambda: connected(clone) == branches(clone))
    ok(clone, "reconcile")
    assert events(home, "database.archive") == []
    git(clone, "branch", "-D", "last")
    until(lambda: "its branch is gone" in " ".join(events(home, "database.archive")))


def test_a_production_branch_that_vanishes_is_an_error_and_not_archived(setup: Setup, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", "other")
    setup.begin(clone)
    put(files(clone)["main"], "precious")
    git(clone, "branch", "-m", "main", "trunk")
    if setup.name == "reconcile":
        provisioner(clone, "reconcile")
    until(lambda: {row["branch"]: row["status"] for row in status(clone)}["main"] == "error")
    assert events(setup.home, "database.archive") == []
    git(clone, "branch", "main", "trunk")
    setup.settle(clone)
    assert got(files(clone)["main"]) == "precious"
