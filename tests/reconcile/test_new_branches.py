"""What the database of a new branch begins with: nothing, or the data of production, of its parent, of a branch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import (
    add_branches,
    bare,
    commit,
    database_of,
    git,
    got,
    killed,
    ok,
    points,
    provisioner,
    put,
    repository,
    rows,
    shop,
    statuses,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Databases of `main`, `login` and `cart`, each a commit ahead of main and with the name of its branch in it."""
    repo = shop(tmp_path / "shop")
    for branch in ("login", "cart"):
        git(repo, "switch", "-q", "-c", branch, "main")
        commit(repo, branch)
    git(repo, "switch", "-q", "main")
    ok(repo, "reconcile")
    for row in rows(repo):
        put(row["path"], row["timeline"])
    return repo


def begun_with(repo: Path, branch: str) -> str:
    ok(repo, "reconcile")
    return got(database_of(repo, f"git-branch/{branch}")["path"])


def history(repo: Path, branch: str) -> list[str]:
    name = database_of(repo, f"git-branch/{branch}")["name"]
    return [event["detail"] for event in json.loads(ok(repo, "database", "show", name, "--json"))["history"]]


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        ("empty", ""),
        ("fork:production", "production"),
        ("fork:parent", "git-branch/login"),
        ("fork:cart", "git-branch/cart"),
        ("fork:git-branch/cart", "git-branch/cart"),
    ],
)
def test_a_new_branch_begins_as_its_assignment_says(repo: Path, rule: str, held: str) -> None:
    ok(repo, "assign", "default", "--new-branch", rule)
    git(repo, "switch", "-q", "-c", "new", "login")
    assert begun_with(repo, "new") == held
    origin = {row["timeline"]: row["name"] for row in rows(repo)}.get(held)
    assert database_of(repo, "git-branch/new")["forked_from"] == origin
    assert begun_with(repo, "login") == "git-branch/login"


def test_without_a_word_it_is_empty_and_the_word_stays(repo: Path) -> None:
    add_branches(repo, "one")
    assert begun_with(repo, "one") == ""
    assert "fork of production" in ok(repo, "assign", "default", "--new-branch", "fork:production")
    assert "fork of production" in ok(repo, "assign", "default", "--connect", "file")
    add_branches(repo, "two")
    assert begun_with(repo, "two") == "production"
    said = ok(repo, "assign", "default", "--new-branch", "fork")
    assert "new branches start from a fork of fork\n" in said  # of the branch of that name
    assert provisioner(repo, "assign", "default", "--new-branch", "fork:").returncode == 2


@pytest.mark.parametrize(
    "made",
    [
        "switch -q -c new login",
        "checkout -q -b new login",
        "branch new login",
        "branch new refs/heads/login",
        "worktree add -q -b new ../tree login",
    ],
)
def test_the_parent_is_what_the_reflog_names(repo: Path, made: str) -> None:
    """`also-there` has the same commit, so that the history does not tell."""
    git(repo, "branch", "also-there", "login")
    ok(repo, "reconcile")
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(repo, *made.split(" "))
    assert begun_with(repo, "new") == "git-branch/login"


@pytest.mark.parametrize("made", ["switch -q -c new", "checkout -q -b new"])
def test_the_parent_is_what_was_checked_out(repo: Path, made: str) -> None:
    git(repo, "branch", "also-there", "login")
    ok(repo, "reconcile")
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(repo, "switch", "-q", "login")
    git(repo, *made.split(" "))
    assert begun_with(repo, "new") == "git-branch/login"


def test_the_parent_is_what_was_checked_out_in_a_worktree(repo: Path, tmp_path: Path) -> None:
    git(repo, "branch", "also-there", "login")
    git(repo, "worktree", "add", "-q", tmp_path / "tree", "login")
    ok(repo, "reconcile")
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(tmp_path / "tree", "switch", "-q", "-c", "new")
    assert begun_with(repo, "new") == "git-branch/login"


def test_a_branch_of_the_branch_that_head_is_on(repo: Path) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(repo, "branch", "new")
    assert begun_with(repo, "new") == "production"


def test_a_parent_that_cannot_be_told_is_said_and_nothing_is_copied(repo: Path) -> None:
    git(repo, "branch", "also-there", "login")
    ok(repo, "reconcile")
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(repo, "update-ref", "refs/heads/new", "login")  # nobody says from where
    assert begun_with(repo, "new") == ""
    assert "git does not record which branch it was created from: it starts empty" in history(repo, "new")


def test_a_branch_that_is_not_there_is_said_and_nothing_is_copied(repo: Path) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:nowhere")
    add_branches(repo, "new")
    assert begun_with(repo, "new") == ""
    assert "nowhere has no database: it starts empty" in history(repo, "new")


def test_a_branch_that_is_not_there_is_noted_when_it_is_named(repo: Path) -> None:
    noted = provisioner(repo, "assign", "default", "--new-branch", "fork:chart")
    assert noted.returncode == 0
    assert "no branch chart exists; until it does, new databases start empty" in noted.stderr
    for rule in ("empty", "fork:production", "fork:parent", "fork:main", "fork:cart"):
        assert "start empty" not in provisioner(repo, "assign", "default", "--new-branch", rule).stderr


def test_what_is_pushed_is_a_fork_of_where_its_history_left(tmp_path: Path) -> None:
    """A bare repository has no reflogs."""
    clone = repository(tmp_path / "clone")
    git(clone, "switch", "-q", "-c", "login")
    commit(clone, "login")
    hub = bare(tmp_path / "hub.git", clone)
    ok(hub, "init", "--no-hooks", "--name", "hub", "--production-branch", "main", "--grace", "0s")
    for row in rows(hub):
        put(row["path"], row["timeline"])
    ok(hub, "assign", "default", "--new-branch", "fork:parent")
    git(clone, "switch", "-q", "-c", "of-login")
    commit(clone, "more")
    git(clone, "branch", "of-main", "main")
    git(clone, "switch", "-q", "login")
    commit(clone, "login goes on")
    git(clone, "push", "-q", "hub", "login", "of-login", "of-main")
    assert begun_with(hub, "of-login") == "git-branch/login"
    assert begun_with(hub, "of-main") == "production"


def test_branches_that_come_together_are_forks_of_each_other(repo: Path) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:parent")
    git(repo, "branch", "c", "login")
    git(repo, "branch", "b", "c")
    git(repo, "branch", "a", "b")
    assert begun_with(repo, "a") == begun_with(repo, "b") == begun_with(repo, "c") == "git-branch/login"
    names = {row["timeline"]: row["name"] for row in rows(repo)}
    assert database_of(repo, "git-branch/a")["forked_from"] == names["git-branch/b"]


def test_a_whole_repository_is_registered_with_forks(repo: Path) -> None:
    """All databases of another instance are made at once, and none before what it is a fork of."""
    ok(repo, "instance", "add", "second")
    ok(repo, "assign", "second", "--new-branch", "fork:production")
    second = {row["timeline"]: row for row in rows(repo) if row["instance"] == "second"}
    assert {row["status"] for row in second.values()} == {"connected"}
    production = second.pop("production")
    assert production["forked_from"] is None
    assert {row["forked_from"] for row in second.values()} == {production["name"]}


def test_a_fork_whose_source_cannot_be_read_is_in_error_and_is_made_when_it_can(repo: Path) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:production")
    source = Path(database_of(repo, "production")["path"]).parent
    source.rename(source.with_name("away"))
    add_branches(repo, "new")
    provisioner(repo, "reconcile")
    found = database_of(repo, "git-branch/new")
    assert found["status"] == "error"
    assert "is missing" in found["error"]
    assert provisioner(repo, "exec", "--branch", "new", "--", "true").returncode == 3
    source.with_name("away").rename(source)
    assert begun_with(repo, "new") == "production"
    assert set(statuses(repo).values()) == {"connected"}


@pytest.mark.parametrize("point", points("provision", "fork"))
def test_a_kill_9_while_a_branch_is_forked(repo: Path, home: Path, point: str) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:production")
    add_branches(repo, "new")
    killed(repo, point, "reconcile")
    assert begun_with(repo, "new") == "production"
    assert set(statuses(repo).values()) == {"connected"}
    assert [path for path in home.glob("instances/*/new/*/*") if not path.name.startswith("spare")] == []
    assert got(database_of(repo, "production")["path"]) == "production"
