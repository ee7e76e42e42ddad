"""An app's own variables: per context, within the limits, and secrets that nobody is shown again."""

from __future__ import annotations

import json
import sqlite3
import string
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import DENO, events, git, ok, provisioner, run, shop

from provisioner.core.errors import UsageError
from provisioner.environment import formats
from provisioner.environment.dotenv import parse


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def environment(cwd: Path, *selectors: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(ok(cwd, "env", "--format", "json", *selectors))
    return found


def refused(cwd: Path, *arguments: str, says: str, code: int = 2) -> None:
    result = provisioner(cwd, "var", "set", *arguments)
    assert (result.returncode, result.stdout) == (code, ""), result
    assert says in result.stderr
    assert json.loads(ok(cwd, "var", "list", "--json")) == []


def test_a_variable_is_injected_in_its_context(repo: Path) -> None:
    ok(repo, "var", "set", "MAIL=smtp://real", "--context", "production")
    ok(repo, "var", "set", "MAIL=smtp://fake", "SHOP=tea & more", "--context", "development,local")
    ok(repo, "var", "set", "BOTH=1")
    assert environment(repo)["MAIL"] == "smtp://real"
    assert "SHOP" not in environment(repo)
    there = environment(repo, "--branch", "login")
    assert (there["MAIL"], there["SHOP"], there["BOTH"]) == ("smtp://fake", "tea & more", "1")
    shown = ok(repo, "exec", "--branch", "login", "--", DENO, "eval", "console.log(Deno.env.get('SHOP'))")
    assert shown == "tea & more\n"
    ok(repo, "var", "unset", "MAIL", "--context", "development", "--yes")
    assert "MAIL" not in environment(repo, "--branch", "login")
    assert environment(repo)["MAIL"] == "smtp://real"
    ok(repo, "var", "unset", "MAIL", "BOTH", "--yes")
    assert "MAIL" not in environment(repo)


def test_local_variables_stand_in_the_place_of_those_of_development(repo: Path) -> None:
    ok(repo, "var", "set", "MAIL=real", "--context", "production")
    ok(repo, "var", "set", "MAIL=fake", "SHOP=tea", "--context", "development")
    ok(repo, "var", "set", "MAIL=mine", "--context", "local")
    for selectors, timeline in (((), "production"), (("--branch", "login"), "git-branch/login")):
        plain, local = environment(repo, *selectors), environment(repo, *selectors, "--context", "local")
        assert (local["MAIL"], local["SHOP"], local["PROVISIONER_CONTEXT"]) == ("mine", "tea", "local")
        assert local["DENO_KV_DEFAULT_PATH"] == plain["DENO_KV_DEFAULT_PATH"]
        assert local["DENO_TIMELINE"] == plain["DENO_TIMELINE"] == timeline
    assert environment(repo)["MAIL"] == "real"
    assert ok(repo, "exec", "--context", "local", "--", "printenv", "MAIL") == "mine\n"
    assert ok(repo, "exec", "--context=local", "--", "printenv", "PROVISIONER_CONTEXT") == "local\n"
    for command in (("exec", "--context", "production", "--", "true"), ("env", "--context", "production")):
        assert provisioner(repo, *command).returncode == 2


def test_an_env_file_keeps_its_context(repo: Path) -> None:
    ok(repo, "hooks", "install")
    ok(repo, "var", "set", "MAIL=fake", "--context", "development")
    ok(repo, "var", "set", "MAIL=mine", "--context", "local")
    ok(repo, "env", "--write", ".env.local", "--context", "local")
    git(repo, "switch", "-q", "login")
    assert "MAIL=mine\n" in (repo / ".env.local").read_text()
    ok(repo, "env", "--write", ".env.local")
    git(repo, "switch", "-q", "-c", "other")
    assert "MAIL=fake\n" in (repo / ".env.local").read_text()


def test_what_is_a_secret_in_one_context_is_shown_by_none(repo: Path) -> None:
    ok(repo, "var", "set", "KEY=first", "--secret", "--context", "production")
    ok(repo, "var", "set", "KEY=hunter2")
    assert "hunter2" not in ok(repo, "var", "list") + ok(repo, "var", "list", "--json")
    assert environment(repo, "--branch", "login")["KEY"] == "hunter2"


def test_a_secret_comes_out_in_the_environment_and_nowhere_else(repo: Path, home: Path) -> None:
    said = run(repo, "provisioner", "var", "set", "KEY", "--secret", stdin="hunter2\n", check=True)
    ok(repo, "var", "set", "PLAIN=visible")
    listed = json.loads(ok(repo, "var", "list", "--json"))
    assert {(item["name"], item["value"], item["secret"]) for item in listed} == {
        ("KEY", None, True),
        ("PLAIN", "visible", False),
    }
    assert "visible" in ok(repo, "var", "list")
    ok(repo, "var", "set", "KEY=hunter2")  # without the word it stays one
    for text in (said.stdout + said.stderr, ok(repo, "var", "list"), ok(repo, "var", "list", "--json")):
        assert "hunter2" not in text
    assert "hunter2" not in ok(repo, "app", "show") + ok(repo, "status", "--json") + provisioner(repo, "doctor").stdout
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        assert "hunter2" not in str(connection.execute("select * from event").fetchall())
    assert environment(repo)["KEY"] == "hunter2"
    assert events(home, "var.set")
    ok(repo, "var", "unset", "KEY", "--yes")
    ok(repo, "var", "set", "KEY=hunter3")
    assert "hunter3" in ok(repo, "var", "list")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("DENO_KV_DEFAULT_PATH=x", "start with DENO_"),
        ("LD_PRELOAD=x", "start with LD_"),
        ("OTEL_X=x", "start with OTEL_"),
        ("PROVISIONER_APP=x", "start with PROVISIONER_"),
        ("DATABASE_URL=x", "the location of the app's database"),
        ("DEFAULT_KV_URL=x", "the location of the app's database"),
        ("=x", "cannot be the name"),
        ("2ND=x", "cannot be the name"),
        ("A-B=x", "cannot be the name"),
        ("Ä=x", "cannot be the name"),
        ("A" * 129 + "=x", "129 bytes"),
        ("A=" + "é" * 8193, "16386 bytes"),
        ("A=\udcff", "not UTF-8"),
    ],
)
def test_what_cannot_be_set_is_refused_with_its_reason(repo: Path, word: str, says: str) -> None:
    refused(repo, "GOOD=1", word, says=says)


def test_the_largest_that_can_be_set(repo: Path) -> None:
    name, value = "A" * 128, "é" * 8192
    ok(repo, "var", "set", f"{name}={value}")
    assert environment(repo)[name] == value
    assert ok(repo, "exec", "--", "printenv", name) == value + "\n"


def test_a_context_that_is_none_and_a_name_that_is_not_there(repo: Path) -> None:
    refused(repo, "A=1", "--context", "staging", says="production, development, local")
    refused(repo, says="nothing to set")
    assert provisioner(repo, "var", "unset", "A", "--yes").returncode == 3


FILE = """\
# a comment
PLAIN=tea  # and another
export QUOTED='a "b" $c #d'
EMPTY=
DOUBLE="line\\nnext \\"x\\" \\$y"
  SPACED = some words
LINES='one
two'
# >>> provisioner >>> kept by 'provisioner env --write'; changes in this block are lost
DENO_TIMELINE=production
# <<< provisioner <<<
LAST=1"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_file_is_imported(repo: Path, ends: str) -> None:
    (repo / ".env").write_bytes(FILE.replace("\n", ends).encode())
    ok(repo, "var", "set", "--from-file", ".env", "LAST=2")
    found = environment(repo)
    assert {name: found[name] for name in ("PLAIN", "QUOTED", "EMPTY", "DOUBLE", "SPACED", "LINES", "LAST")} == {
        "PLAIN": "tea",
        "QUOTED": 'a "b" $c #d',
        "EMPTY": "",
        "DOUBLE": 'line\nnext "x" $y',
        "SPACED": "some words",
        "LINES": "one\ntwo",
        "LAST": "2",
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("A=${B}", "not expanded"),
        ('A="${B}"', "not expanded"),
        ("A='open", "no end"),
        ("A='x' y", "follows the quote"),
        ('A="\\q"', "escape"),
        ("nonsense", "not NAME=VALUE"),
        ("DENO_X=1", "start with DENO_"),
        ("A B=1", "not NAME=VALUE"),
    ],
)
def test_a_file_that_readers_disagree_on_is_refused_whole(repo: Path, line: str, says: str) -> None:
    (repo / ".env").write_text(f"GOOD=1\n\n{line}\n")
    refused(repo, "--from-file", ".env", says=says)
    if "DENO" not in line:
        refused(repo, "--from-file", ".env", says="line 3")


@example({"A": "'\\0"})
@given(st.dictionaries(st.text(string.ascii_uppercase, min_size=1), st.text().filter(lambda text: "\0" not in text)))
def test_what_is_written_as_dotenv_is_read_as_it_was(values: dict[str, str]) -> None:
    written: dict[str, str] = {}
    for name, value in values.items():
        try:
            formats.dotenv({name: value})
        except UsageError:
            continue
        written[name] = value
    assert parse(".env", formats.dotenv(written)) == written
