"""Production's data belongs to the app's setting: the branch that has the production branch's name gets it, and no other does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from owner_world import lose_registry
from support import files, git, got, marked_shop, ok, provisioner

CASES: dict[str, tuple[str, ...]] = {
    "renamed": ("branch -m main other",),
    "renamed, and made again": ("branch -m main other", "branch main other"),
    "swapped": ("branch -m main between", "branch -m login main", "branch -m between login"),
    "deleted, and made again": ("checkout -q --detach", "branch -D main", "branch main HEAD"),
    "overwritten": ("checkout -q --detach", "branch -M login main"),
}
HELD: dict[str, dict[str, str]] = {
    "renamed": {"login": "git-branch/login"},
    "renamed, and made again": {"main": "production", "login": "git-branch/login"},
    "swapped": {"main": "production"},
    "deleted, and made again": {"main": "production", "login": "git-branch/login"},
    "overwritten": {"main": "production"},
}


def _held(repo: Path) -> dict[str, str]:
    return {name: mark for name, file in files(repo).items() if (mark := got(file))}


@pytest.mark.parametrize("case", CASES)
def test_production_follows_the_name_and_not_the_branch(tmp_path: Path, home: Path, case: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    for step in CASES[case]:
        git(repo, *step.split())
    provisioner(repo, "reconcile")
    assert _held(repo) == HELD[case]
    production = json.loads(ok(repo, "status", "--json", "--timeline", "production"))
    if case == "renamed":  # a person decides: the data waits for a branch of that name, or for another setting
        assert "--production-branch" in production[0]["databases"][0]["error"]
        ok(repo, "app", "set", "--production-branch", "other")
        assert _held(repo) == {"other": "production", "login": "git-branch/login"}


def test_another_production_branch_takes_the_data_and_leaves_none_behind(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    ok(repo, "app", "set", "--production-branch", "login")
    assert _held(repo) == {"login": "production"}
    ok(repo, "app", "set", "--production-branch", "main")
    assert _held(repo) == {"main": "production", "login": "git-branch/login"}


def test_a_branch_that_has_become_production_gets_no_other_data_without_the_registry(
    tmp_path: Path, home: Path
) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    lose_registry(home)
    for step in CASES["swapped"]:
        git(repo, *step.split())
    provisioner(repo, "init", "--no-hooks", "--production-branch", "main")
    provisioner(repo, "database", "recover", "--all")
    assert _held(repo) == {"main": "production"}
