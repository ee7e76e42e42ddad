"""Logs that were deleted by hand: no time that a program can set, or that another change of a file sets, gives data away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from branch_oracle import SILENT
from git_file_steps import CHANGES, lose_logs
from support import files, git, got, ok, put, repository


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A registered repository with branches whose databases hold their names."""
    repo = repository(tmp_path / "shop", "a", "c")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    for name, file in files(repo).items():
        put(file, name)
    return repo


def held(repo: Path) -> dict[str, str]:
    return {name: got(file) for name, file in files(repo).items() if name != "main"}


@pytest.mark.parametrize("change", CHANGES)
def test_branches_that_exchange_names_without_logs_do_not_exchange_data(
    shop: Path, change: Callable[[Path], None]
) -> None:
    lose_logs(shop / ".git")
    for old, new in (("a", "t"), ("c", "a"), ("t", "c")):
        git(shop, *SILENT, "branch", "-m", old, new)
    change(shop / ".git")
    ok(shop, "reconcile")
    assert {name: mark for name, mark in held(shop).items() if mark} == {}


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_branch_with_a_log_is_not_the_one_that_left_its_name_without(
    shop: Path, change: Callable[[Path], None]
) -> None:
    lose_logs(shop / ".git")
    git(shop, *SILENT, "branch", "-m", "a", "t")
    git(shop, "branch", "a", "main")
    change(shop / ".git")
    ok(shop, "reconcile")
    assert held(shop).get("a", "") == ""


def test_branches_that_stay_where_they_are_keep_their_data(shop: Path) -> None:
    lose_logs(shop / ".git")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "c": "c"}


def test_a_branch_without_a_log_may_be_the_one_that_left_its_name(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "only")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    put(files(repo)["only"], "only")
    lose_logs(repo / ".git")
    git(repo, *SILENT, "branch", "-m", "only", "later")
    git(repo, *SILENT, "branch", "only", "main")
    ok(repo, "reconcile")
    assert {name: mark for name, mark in held(repo).items() if mark} == {}
    assert "git does not show whether" in ok(repo, "status", "--branch", "only")


def test_a_branch_without_a_log_takes_nothing_from_branches_whose_logs_go_on(shop: Path) -> None:
    git(shop, *SILENT, "branch", "new", "main")
    git(shop, "gc", "-q")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "c": "c", "new": ""}
