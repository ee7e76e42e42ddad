"""Lists: a heading, one page, what is archived, and one line with the next step if there is nothing to list."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import marked_shop, ok, provisioner, shop

pytestmark = pytest.mark.slow

AGE = re.compile(r" +\d+ (?:s|min)$|  AGE$", re.MULTILINE)
LISTS = (
    *(
        ("status",),
        ("database", "list"),
        ("timeline", "list"),
        ("instance", "list"),
        ("app", "list"),
        ("token", "list"),
    ),
    *(("preview", "list"), ("var", "list"), ("database", "snapshot", "list")),
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = marked_shop(tmp_path / "shop", "login", "pay")
    ok(made, "var", "set", "NAME=value")
    ok(made, "token", "create", "--branch", "login", "--label", "ci")
    ok(made, "preview", "create", "HEAD")
    ok(made, "database", "snapshot", "create", "login")
    return made


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_is_a_table_with_a_heading_that_fits_the_terminal(repo: Path, words: tuple[str, ...]) -> None:
    heading, *rows = ok(repo, *words).splitlines()
    assert heading == heading.upper()
    assert rows
    for columns in (40, 80, 120):
        narrow = ok(repo, *words, add={"COLUMNS": str(columns)}).splitlines()
        assert len(narrow) == 1 + len(rows)
        assert all(len(line) <= columns for line in narrow)
    wide = ok(repo, *words, "--wide", add={"COLUMNS": "40"})
    assert AGE.sub("", wide).splitlines() == AGE.sub("", "\n".join([heading, *rows])).splitlines()


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_pages_that_follow_each_other_are_the_whole_list(repo: Path, words: tuple[str, ...]) -> None:
    whole = json.loads(ok(repo, *words, "--json"))
    found: list[object] = []
    cursor: list[str] = []
    for _ in whole:
        page = provisioner(repo, *words, "--json", "--limit", "1", *cursor)
        found += json.loads(page.stdout)
        if not page.stderr:
            break
        cursor = ["--cursor", json.loads(page.stderr)["cursor"]]
    assert found == whole
    assert provisioner(repo, *words, "--cursor", "of no list").returncode == 2


def test_nothing_to_list_is_one_line_on_stderr_with_the_next_step(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    for words in (("token", "list"), ("preview", "list"), ("var", "list"), ("database", "snapshot", "list")):
        done = provisioner(repo, *words)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.startswith("No ")
        assert ": provisioner " in done.stderr
        assert done.stderr.count("\n") == 1
        assert ok(repo, *words, "--json") == "[]\n"
        assert provisioner(repo, *words, "--quiet").stderr == ""


def test_archived_timelines_previews_and_databases_are_hidden_until_asked_for(repo: Path) -> None:
    ok(repo, "database", "archive", "login", "--yes")
    ok(repo, "preview", "delete", "HEAD", "--yes")
    for words in (("status",), ("timeline", "list"), ("database", "list"), ("preview", "list")):
        done = provisioner(repo, *words)
        assert "archived" not in done.stdout
        assert f"provisioner {' '.join(words)} --archived" in done.stderr
        assert "archived" in ok(repo, *words, "--archived")
        assert "archived" in ok(repo, *words, "--all")


def test_lists_of_tokens_and_instances_can_be_those_of_one_app(repo: Path, tmp_path: Path) -> None:
    other = shop(tmp_path / "other" / "cafe", options=("--name", "cafe"))
    ok(other, "instance", "add", "more")
    assert len(json.loads(ok(other, "token", "list", "--app", "shop", "--json"))) == 1
    assert json.loads(ok(other, "token", "list", "--app", "cafe", "--json")) == []
    assert [item["instance"] for item in json.loads(ok(other, "instance", "list", "--app", "cafe", "--json"))] == [
        "default"
    ]
