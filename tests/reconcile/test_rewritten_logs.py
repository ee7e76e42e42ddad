"""Logs that git rewrites twice between two looks no longer show the renames in between: then no branch gets data by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import files, git, got, ok, provisioner, put, repository

pytestmark = pytest.mark.slow

KEEP = "reflog expire --all"
WIPE = "reflog expire --expire=now --expire-unreachable=now --all"
PURGE = (WIPE, "gc -q --prune=now")

BETWEEN: dict[str, tuple[str, ...]] = {
    "exchanged": ("branch -m a tmp", "branch -m b a", "branch -m tmp b"),
    "one over the other": ("branch -M a b",),
    "moved aside by a new one": ("branch new main", "branch -m new tmp", "branch -m a new", "branch -m tmp a"),
    "deleted, and the other one renamed to it": ("branch -D a", "branch -m b a"),
    "renamed, and made again": ("branch -m a c", "branch a main"),
    "exchanged in plumbing": ("branch -m a tmp", "pack-refs --all", "branch -m b a", "branch -m tmp b"),
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A registered repository with branches whose databases hold their names."""
    repo = repository(tmp_path / "shop", "a", "b")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    for name, file in files(repo).items():
        put(file, name)
    return repo


def run(repo: Path, *steps: str) -> None:
    for step in steps:
        git(repo, *step.split())


def held(repo: Path) -> dict[str, str]:
    return {name: got(file) for name, file in files(repo).items() if name != "main"}


@pytest.mark.parametrize("first", [KEEP, WIPE, "gc -q"])
@pytest.mark.parametrize("case", BETWEEN)
def test_no_branch_gets_the_data_of_another_that_had_its_name(shop: Path, case: str, first: str) -> None:
    run(shop, first, *BETWEEN[case], WIPE)
    own = {} if "branch -m b a" in BETWEEN[case] or "branch -M a b" in BETWEEN[case] else {"b": "b"}
    for _ in ("first", "second"):
        ok(shop, "reconcile")
        marks = {name: mark for name, mark in held(shop).items() if mark}
        assert marks.items() <= own.items()
        assert marks == own or first == "gc -q"  # which may or may not rewrite the log
        for name in ("a", "b"):
            assert provisioner(shop, "exec", "--branch", name, "--", "true").returncode in (0, 3)


def test_status_says_who_may_own_it_and_a_person_decides(shop: Path) -> None:
    run(shop, KEEP, *BETWEEN["exchanged"], WIPE)
    ok(shop, "reconcile")
    assert held(shop) == {}
    orphans = {
        row["branch"]: database["id"]
        for row in json.loads(ok(shop, "status", "--json"))
        for database in row["databases"]
        if database["orphan"]
    }
    assert orphans.keys() == {"a", "b"}
    assert "git does not show whether" in ok(shop, "status", "--branch", "a")
    ok(shop, "database", "recover", orphans["a"], "--to", "b")
    ok(shop, "database", "recover", orphans["b"], "--to", "a")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "b", "b": "a"}


@pytest.mark.parametrize("how", [(KEEP,), (WIPE,), ("gc -q",), ("gc -q", "gc -q"), (WIPE, "branch -f a HEAD")])
def test_logs_that_are_rewritten_without_a_rename_take_no_data_away(shop: Path, how: tuple[str, ...]) -> None:
    run(shop, *how)
    ok(shop, "reconcile")
    assert held(shop) == {"a": "a", "b": "b"}


def test_a_look_between_two_rewritings_keeps_the_data(shop: Path) -> None:
    run(shop, WIPE)
    ok(shop, "reconcile")
    run(shop, "gc -q --prune=now")
    ok(shop, "reconcile")
    run(shop, "branch -m a c", "branch a main")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "", "b": "b", "c": "a"}


def test_one_branch_that_alone_can_have_a_name_keeps_its_data(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "only")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    put(files(repo)["only"], "only")
    run(repo, *PURGE)
    ok(repo, "reconcile")
    assert held(repo) == {"only": "only"}


def test_without_any_log_no_branch_gets_data_that_may_be_anothers(shop: Path) -> None:
    run(shop, *BETWEEN["exchanged"])
    shutil.rmtree(shop / ".git/logs")
    ok(shop, "reconcile")
    assert {name: mark for name, mark in held(shop).items() if mark}.items() <= {"a": "b", "b": "a"}.items()


def test_a_copy_is_no_branch_that_may_own_data(shop: Path) -> None:
    run(shop, WIPE, "branch -m a d", "branch -c d a", "branch -m a t", "branch -D b")
    ok(shop, "reconcile")
    assert held(shop) == {"d": "a", "t": ""}


def test_a_database_that_may_be_anothers_takes_nothing_from_the_branch_of_its_timeline(shop: Path) -> None:
    run(shop, KEEP, *BETWEEN["exchanged"], WIPE)
    ok(shop, "reconcile")
    run(shop, "branch -m a later")
    ok(shop, "reconcile")
    run(shop, "branch new main")
    ok(shop, "reconcile")
    put(files(shop)["new"], "new")
    run(shop, "branch -m new a", "branch other main")
    ok(shop, "reconcile")
    ok(shop, "reconcile")
    assert held(shop) == {"a": "new", "other": ""}
    assert provisioner(shop, "exec", "--branch", "later", "--", "true").returncode == 3
