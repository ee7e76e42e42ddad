"""A rename that the reflog remembers is followed once, and never for a later branch of the same name."""

from __future__ import annotations

from pathlib import Path

from support import commit, files, git, got, ok, put, repository


def test_an_unseen_rename_does_not_move_the_data_of_a_later_branch_of_that_name(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", "kept")
    ok(shop, "init", "--no-hooks", "--grace", "0s")
    put(files(shop)["kept"], "precious")
    git(shop, "branch", "passing")  # nobody looks before it is renamed
    git(shop, "branch", "-M", "passing", "kept")
    ok(shop, "reconcile")
    git(shop, "branch", "passing")
    ok(shop, "reconcile")
    put(files(shop)["passing"], "other")
    git(shop, "branch", "-D", "passing")
    ok(shop, "reconcile")
    assert got(files(shop)["kept"]) == "precious"


def test_a_followed_rename_is_not_followed_again_for_a_branch_that_came_back(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", "old")
    ok(shop, "init", "--no-hooks", "--grace", "0s")
    put(files(shop)["old"], "precious")
    git(shop, "branch", "-m", "old", "new")
    ok(shop, "reconcile")
    assert got(files(shop)["new"]) == "precious"
    for turn in range(2):
        git(shop, "branch", "old")
        commit(shop, f"turn {turn}")
        ok(shop, "reconcile")
        git(shop, "branch", "-D", "old")
        ok(shop, "reconcile")
        assert got(files(shop)["new"]) == "precious"
