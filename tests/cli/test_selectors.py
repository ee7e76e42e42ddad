"""`--app`, `--branch`, `--timeline`, `--revision` and `--instance` mean the same in every command, and a target does too."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from hostile import command_of, leaves
from support import Done, commit, database_of, git, got, marked_shop, ok, provisioner, repository, rows, run, statuses

from provisioner.cli.selectors import HELP

pytestmark = pytest.mark.slow

ALL = {"app", "branch", "timeline", "revision", "instance"}
TWO_TARGETS = {"database fork", "database share", "database diff"}


def options(name: str) -> dict[str, str]:
    """The selectors that a command takes, with their help."""
    found = {}
    for each in command_of(name).params:
        if isinstance(each, click.Option):
            for word in each.opts:
                if word.removeprefix("--") in ALL:
                    found[word.removeprefix("--")] = each.help or ""
    return found


def test_every_database_verb_takes_a_branch_and_all_other_selectors() -> None:
    for name in leaves():
        if name.startswith("database ") and name != "database snapshot delete":
            expected = ALL - {"branch", "timeline", "revision"} if name in TWO_TARGETS else ALL
            found = options(name)
            if name == "database restore":
                assert "as it was" in found["revision"].lower()  # there it is a moment, and always was
            assert found.keys() == expected, name
        elif name.startswith("timeline "):
            assert options(name).keys() >= ALL - {"instance"}, name
        elif name in ("exec", "env", "status", "token create", "token revoke") or name.startswith("kv "):
            assert options(name).keys() == ALL, name


def test_a_selector_is_described_in_the_same_words_wherever_it_means_a_timeline() -> None:
    for name in leaves():
        found = options(name)
        if name == "database restore":
            del found["revision"]
        if found.keys() & {"branch", "timeline"}:
            assert found == {key: HELP[key] for key in found}, name


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = marked_shop(tmp_path / "shop", "login")
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    ok(repo, "reconcile")
    return repo


def ways(repo: Path) -> list[tuple[str, ...]]:
    """Words that all mean the timeline of the branch login, which is checked out."""
    row = database_of(repo, "git-branch/login")
    revision = git(repo, "rev-parse", "HEAD").stdout.strip()
    targets = (
        "login",
        "git-branch/login",
        "shop:login",
        "shop:git-branch/login",
        "@",
        "shop:@",
        revision[:7],
        revision,
    )
    selectors = (
        ("--branch", "login"),
        ("--timeline", "git-branch/login"),
        *(("--revision", name) for name in (revision[:7], revision, "HEAD", "login")),
    )
    return [
        (),
        *((each,) for each in (*targets, row["name"], row["id"], row["id"][:7])),
        *selectors,
        *(("--app", "shop", *each) for each in selectors),
        ("--instance", "default"),
        ("login", "--instance", "default"),
        ("--app", "shop", "login"),
    ]


def test_a_timeline_is_named_in_many_ways_and_by_none_in_its_checkout(repo: Path) -> None:
    expected = database_of(repo, "git-branch/login")["id"]
    for words in ways(repo):
        assert json.loads(ok(repo, "database", "show", *words, "--json"))["id"] == expected, words
        if words and words[0] != "--instance":  # with nothing else these two list all timelines
            (listed,) = json.loads(ok(repo, "database", "list", *words, "--json"))
            assert listed["id"] == expected, words
        if "--instance" not in words:
            document = json.loads(ok(repo, "timeline", "show", *words, "--json"))
            assert document["timeline"] == "git-branch/login", words
        found = json.loads(ok(repo, "env", *words, "--format", "json"))
        assert found["DENO_TIMELINE"] == "git-branch/login", words


@pytest.mark.parametrize(
    "words", [("login",), ("--branch", "login"), ("--timeline", "git-branch/login"), ("shop:login",)], ids=" ".join
)
def test_each_verb_does_the_same_to_it(repo: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    def holds() -> str:
        return got(database_of(repo, "git-branch/login")["path"])

    git(repo, "switch", "-q", "main")
    kept = ok(repo, "database", "snapshot", "create", *words).split(" ")[2]
    ok(repo, "database", "reset", *words, "--yes")
    assert holds() == ""
    assert kept in ok(repo, "database", "snapshot", "list", *words)
    ok(repo, "database", "restore", *words, kept, "--yes")
    assert holds() == "git-branch/login"
    ok(repo, "database", "dump", *words, "--output", str(tmp_path / "dump"))
    ok(repo, "database", "reset", *words, "--from", "production", "--yes")
    assert holds() == "production"
    ok(repo, "database", "load", *words, str(tmp_path / "dump"), "--replace", "--yes")
    assert holds() == "git-branch/login"
    ok(repo, "database", "archive", *words, "--yes")
    assert statuses(repo)["git-branch/login"] == "archived"
    ok(repo, "database", "recover", *words)
    ok(repo, "database", "fix", *words)
    assert (statuses(repo)["git-branch/login"], holds()) == ("connected", "git-branch/login")
    ok(repo, "database", "archive", *words, "--yes")
    ok(repo, "database", "purge", *words, "--yes")
    assert (statuses(repo)["git-branch/login"], holds()) == (
        "connected",
        "",
    )  # its branch is there, so it gets a new one
    assert got(database_of(repo, "production")["path"]) == "production"


CONFLICTS = [
    ("database", "show", "login", "--branch", "login"),
    ("database", "show", "--branch", "login", "--timeline", "production"),
    ("database", "show", "shop:login", "--app", "other"),
    ("exec", "--branch", "login", "--revision", "HEAD", "--", "true"),
    ("database", "fork", "main", "login", "more", "--yes"),
    ("database", "restore", "--branch", "login", "12345678", "more", "--yes"),
    ("status", "--all", "--branch", "login"),
    ("app", "show", "shop", "--app", "other"),
    ("instance", "show", "default", "--instance", "other"),
    ("database", "show", ":login"),
    ("token", "create", "--admin", "--branch", "login"),
]


@pytest.mark.parametrize("words", CONFLICTS, ids=" ".join)
def test_two_selectors_for_one_thing_are_exit_code_2(repo: Path, words: tuple[str, ...]) -> None:
    done: Done = provisioner(repo, *words)
    assert (done.returncode, done.stdout) == (2, ""), done


def test_an_object_is_named_by_its_position_or_its_option(repo: Path, tmp_path: Path) -> None:
    for words in (("app", "show"), ("instance", "show"), ("instance", "test")):
        kind = words[0]
        named = {"app": "shop", "instance": "default"}[kind]
        assert ok(repo, *words, named).split("\n")[0] == ok(repo, *words, f"--{kind}", named).split("\n")[0]
    ok(repo, "instance", "add", "more")
    ok(tmp_path, "assign", "more", "--app", "shop")
    ok(tmp_path, "unassign", "more", "--app", "shop", "--yes")
    ok(tmp_path, "app", "remove", "--app", "shop", "--yes")


def test_another_apps_branch_is_a_target(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    ok(other, "init", "--no-hooks", "--name", "other")
    shown = json.loads(ok(other, "database", "show", "shop:login", "--json"))
    assert (shown["app"], shown["timeline"]) == ("shop", "git-branch/login")
    assert provisioner(other, "database", "show", "login").returncode == 3
    outside = run(tmp_path, "provisioner", "database", "show", shown["name"], "--json")
    assert json.loads(outside.stdout)["id"] == shown["id"]
    assert provisioner(tmp_path, "database", "show", "login").returncode == 3


def test_a_name_of_two_things_is_exit_code_3_with_a_spelling_for_each(repo: Path) -> None:
    name = database_of(repo, "git-branch/login")["name"]
    git(repo, "branch", name)
    git(repo, "branch", "production")
    ok(repo, "reconcile")
    for word, others in ((name, (f"git-branch/{name}",)), ("production", ("git-branch/production", "main"))):
        refused = provisioner(repo, "database", "reset", word, "--yes")
        assert refused.returncode == 3
        assert all(other in refused.stderr for other in others)
    for word in ("git-branch/production", f"git-branch/{name}"):
        assert json.loads(ok(repo, "database", "show", word, "--json"))["timeline"] == word
    shown = json.loads(ok(repo, "database", "show", "--branch", "production", "--json"))
    assert shown["timeline"] == "git-branch/production"


def test_a_token_opens_the_database_that_the_selectors_mean(repo: Path) -> None:
    login = database_of(repo, "git-branch/login")["name"]
    for words in (
        ("--branch", "login"),
        ("--database", "login"),
        ("--database", login),
        ("--timeline", "git-branch/login"),
    ):
        made = json.loads(ok(repo, "token", "create", *words, "--json"))
        assert (made["scope"], made["database"]) == ("database", login)
    assert json.loads(ok(repo, "token", "create", "--app", "shop", "--json"))["scope"] == "app"
    assert login in ok(repo, "token", "revoke", "--branch", "login")
    assert {row["status"] for row in rows(repo)} == {"connected"}
