"""NAME@{MOMENT} is data of the past, to be read: by a snapshot's id or label, a commit, a time, or `parent`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import commit, git, ok, provisioner, shop

pytestmark = pytest.mark.slow


def keep(repo: Path, branch: str, price: str, label: str = "") -> str:
    """A price under a key, and a snapshot of it: its id."""
    ok(repo, "kv", "set", "--branch", branch, '["price"]', price)
    taken = json.loads(ok(repo, "database", "snapshot", "create", branch, "--label", label, "--json"))
    return str(taken["snapshots"][0]["id"])


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = shop(tmp_path / "shop", "login")
    git(made, "switch", "-q", "login")
    return made


def price(repo: Path, branch: str = "login") -> str:
    return ok(repo, "kv", "get", "--branch", branch, '["price"]').strip()


def dumped(repo: Path, target: str) -> str:
    entries = [json.loads(line) for line in ok(repo, "database", "dump", target).splitlines()]
    return str(next(item["value"] for item in entries if item.get("key") == ["price"]))


def test_a_dump_and_a_diff_read_a_snapshot_by_its_id_its_label_or_a_time(repo: Path) -> None:
    first = keep(repo, "login", "1", "before-import")
    keep(repo, "login", "2")
    ok(repo, "kv", "set", '["price"]', "3")
    for target in (f"login@{{{first[:7]}}}", "login@{before-import}", "@{before-import}", "shop:login@{before-import}"):
        assert dumped(repo, target) == "1"
    assert dumped(repo, "@{0s}") == "2"
    assert dumped(repo, "@{2100-01-01 10:00}") == "2"
    assert dumped(repo, "login") == "3"
    assert ok(repo, "database", "diff", "@{before-import}", "@", "--values").split() == ["~", '["price"]', "1", "3"]
    said = provisioner(repo, "database", "dump", "@{0s}").stderr
    assert "taken at 20" in said


def test_reading_the_past_changes_no_snapshot(repo: Path, home: Path) -> None:
    keep(repo, "login", "1", "kept")
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("snapshots/**/*"))
    assert dumped(repo, "@{kept}") == "1"
    assert sorted((path, path.stat().st_mtime_ns) for path in home.rglob("snapshots/**/*")) == before


def test_a_fork_and_a_reset_can_be_from_the_past(repo: Path) -> None:
    keep(repo, "login", "1", "old")
    ok(repo, "kv", "set", '["price"]', "2")
    git(repo, "branch", "pay")
    assert ok(repo, "database", "fork", "login@{old}", "pay", "--yes").startswith("Forked shop--login-")
    assert price(repo, "pay") == "1"
    ok(repo, "database", "reset", "login", "--from", "login@{old}", "--yes")
    assert price(repo) == "1"


def test_a_restore_takes_a_label_a_time_and_a_commit(repo: Path) -> None:
    ok(repo, "app", "set", "--snapshot-revisions", "3")
    keep(repo, "login", "1", "old")
    at = git(repo, "rev-parse", "HEAD").stdout.strip()
    commit(repo, "second")
    ok(repo, "reconcile")
    for moment, expected in (("old", "1"), (at[:9], "1"), ("0s", "9")):
        ok(repo, "kv", "set", '["price"]', "9")
        if moment == "0s":
            ok(repo, "database", "snapshot", "create")
        ok(repo, "database", "restore", "@", moment, "--yes")
        assert price(repo) == expected
    old = provisioner(repo, "database", "restore", "@", "--revision", at, "--yes")
    assert (old.returncode, "note: --revision" in old.stderr, price(repo)) == (0, True, "1")


def test_the_parent_is_the_timeline_that_it_was_forked_from(repo: Path) -> None:
    refused = provisioner(repo, "database", "diff")
    assert refused.returncode == 3
    assert "was not forked" in refused.stderr
    ok(repo, "kv", "set", "--branch", "main", '["price"]', "1")
    ok(repo, "database", "fork", "production", "--yes")
    ok(repo, "kv", "set", '["price"]', "2")
    assert ok(repo, "database", "diff", "--values").split() == ["~", '["price"]', "1", "2"]
    assert ok(repo, "env", "@{parent}", "--json") == ok(repo, "env", "main", "--json")
    ok(repo, "database", "reset", "--from", "parent", "--yes")
    assert price(repo) == "1"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("database", "reset", "login@{old}", "--yes"), 2, "can only be read"),
        (("database", "archive", "@{old}", "--yes"), 2, "database restore"),
        (("env", "login@{old}"), 2, "can only be read"),
        (("database", "load", "login@{old}", "/dev/null", "--replace", "--yes"), 2, "can only be read"),
        (("database", "dump", "login@{odl}"), 3, "Did you mean old?"),
        (("database", "dump", "login@{3d}"), 3, "the oldest is of"),
        (("database", "dump", "login@{}"), 2, "is not a target"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    repo: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    keep(repo, "login", "1", "old")
    done = provisioner(repo, *words)
    assert done.returncode == code, done
    assert said in done.stderr
    assert price(repo) == "1"


def test_a_word_with_two_meanings_is_refused_with_the_ids(repo: Path) -> None:
    first = keep(repo, "login", "1")
    second = keep(repo, "login", "2", first[:8])
    done = provisioner(repo, "database", "dump", f"@{{{first[:8]}}}", "-o", "out", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (3, "ambiguous")
    assert {first, second} <= set(error["candidates"])
