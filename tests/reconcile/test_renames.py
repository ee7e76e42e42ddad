"""Data follows the branch that it was written on, whatever became of the names while nobody looked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support import commit, events, files, git, got, ok, provisioner, put, repository

pytestmark = pytest.mark.slow


def _shop(path: Path, *names: str) -> Path:
    shop = repository(path, *names)
    ok(shop, "init", "--no-hooks", "--grace", "0s")
    for name, file in files(shop).items():
        put(file, name)
    return shop


def _renamed(shop: Path, *pairs: str) -> None:
    for pair in pairs:
        old, new = pair.split(">")
        git(shop, "branch", "-M", old, new)


def _held(shop: Path) -> dict[str, str]:
    return {name: got(file) for name, file in files(shop).items()}


SWAPPED = ("a>t", "b>a", "t>b")
ROTATED = ("c>t", "b>c", "a>b", "t>a")
CASES = [
    (SWAPPED, {"a": "b", "b": "a", "c": "c"}),
    (ROTATED, {"a": "c", "b": "a", "c": "b"}),
    ((*SWAPPED, *SWAPPED), {"a": "a", "b": "b", "c": "c"}),
    (("b>b-old", "a>b"), {"b": "a", "b-old": "b", "c": "c"}),
    (("a>x", "x>y", "y>z"), {"z": "a", "b": "b", "c": "c"}),
    (("a>t", "t>b"), {"b": "a", "c": "c"}),
    (("a>b", "b>c"), {"c": "a"}),
    (("c>d", "b>c", "a>b"), {"b": "a", "c": "b", "d": "c"}),
    (("a>t", "t>a"), {"a": "a", "b": "b", "c": "c"}),
]


@pytest.mark.parametrize(("pairs", "wanted"), CASES, ids=[" ".join(pairs) for pairs, _ in CASES])
def test_between_two_looks(tmp_path: Path, pairs: tuple[str, ...], wanted: dict[str, str]) -> None:
    shop = _shop(tmp_path / "shop", "a", "b", "c")
    _renamed(shop, *pairs)
    git(shop, "gc", "--quiet")
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", **wanted}
    for _ in range(2):  # and there it stays
        git(shop, "branch", "passing")
        ok(shop, "reconcile")
        git(shop, "branch", "-D", "passing")
        ok(shop, "reconcile")
        assert _held(shop) == {"main": "main", **wanted}


def test_a_name_that_is_used_again_at_once_begins_empty(tmp_path: Path, home: Path) -> None:
    shop = _shop(tmp_path / "shop", "feature")
    git(shop, "branch", "-m", "feature", "feature-old")
    git(shop, "branch", "feature")
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", "feature-old": "feature", "feature": ""}
    assert events(home, "database.archive") == []


def test_a_swap_while_no_daemon_ran_is_followed_by_the_next_hook(tmp_path: Path) -> None:
    shop = _shop(tmp_path / "shop", "a", "b")
    _renamed(shop, *SWAPPED)
    git(shop, "branch", "c")
    assert provisioner(shop, "exec", "--branch", "c", "--", "true").returncode == 0  # reconciles
    assert _held(shop) == {"main": "main", "a": "b", "b": "a", "c": ""}


def test_a_copy_takes_nothing_along(tmp_path: Path) -> None:
    shop = _shop(tmp_path / "shop", "a", "b")
    _renamed(shop, "a>x")
    git(shop, "branch", "-c", "x", "copy")
    git(shop, "branch", "-C", "x", "b")
    git(shop, "branch", "-m", "copy", "copied")
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", "x": "a", "b": "b", "copied": ""}


def test_production_stays_where_it_is(tmp_path: Path) -> None:
    shop = _shop(tmp_path / "shop", "a", "b")
    _renamed(shop, "main>was-main", "a>main")
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", "b": "b", "was-main": ""}
    _renamed(shop, "main>c")
    git(shop, "branch", "main", "c")
    git(shop, "branch", "a")
    ok(shop, "reconcile")
    held = _held(shop)
    assert (held["main"], held["b"], held["c"]) == ("main", "b", "")


def test_old_renames_in_a_log_that_lost_its_newer_ones_are_not_news(tmp_path: Path) -> None:
    shop = _shop(tmp_path / "shop", "a", "b")
    _renamed(shop, "a>b")
    ok(shop, "reconcile")
    git(shop, "branch", "a")
    ok(shop, "reconcile")
    put(files(shop)["a"], "another")
    _renamed(shop, "b>c", "c>b")
    ok(shop, "reconcile")
    log = shop / ".git/logs/refs/heads/b"
    log.write_text("\n".join(log.read_text().splitlines()[:2]) + "\n")  # as `git reflog expire` may leave it
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", "a": "another", "b": "a"}


def test_a_database_that_cannot_be_had_keeps_its_place_and_nothing_takes_it(tmp_path: Path) -> None:
    shop = _shop(tmp_path / "shop", "a", "b")
    lost = files(shop)["b"].parent
    aside = tmp_path / "aside"
    lost.rename(aside)
    provisioner(shop, "reconcile")
    _renamed(shop, "b>c", "a>b")
    assert provisioner(shop, "reconcile").returncode == 1
    git(shop, "branch", "-c", "c", "copy")
    git(shop, "branch", "passing")
    _renamed(shop, "passing>main-2", "main-2>copy")
    assert provisioner(shop, "reconcile").returncode == 1
    git(shop, "branch", "passing")
    assert provisioner(shop, "reconcile").returncode == 1
    aside.rename(lost)
    ok(shop, "reconcile")
    assert _held(shop) == {"main": "main", "b": "a", "c": "b", "copy": "", "passing": ""}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("clock", ["running", "standing"])
def test_how_often_one_looks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, clock: str
) -> None:
    if clock == "standing":  # as where all of it happens within one second: logs then hold the same lines
        monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000000 +0000")
    dice = random.Random(seed)
    shop = _shop(tmp_path / "shop", "a", "b", "c", "d")
    expected = _held(shop)
    for turn in range(30):
        names = sorted(set(expected) - {"main"})
        old = dice.choice(names)
        new = dice.choice([name for name in "abcdefgh" if name not in names])
        git(shop, "branch", "-m", old, new)
        expected[new] = expected.pop(old)
        if dice.random() < 0.2:
            git(shop, "switch", "-q", new)
            commit(shop, f"turn {turn}")
            git(shop, "switch", "-q", "main")
        if dice.random() < 0.3:
            ok(shop, "reconcile")
            assert _held(shop) == expected
    ok(shop, "reconcile")
    assert _held(shop) == expected
