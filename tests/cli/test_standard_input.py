"""Empty standard input is an error with exit code 2, and never an answer: it changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Done, got, marked_shop, ok, provisioner, rows, run, shop

from provisioner.cli import standard_input

pytestmark = pytest.mark.slow

EMPTY = {"nothing": "", "a line": "\n", "white space": " \t\r\n\n "}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = marked_shop(tmp_path / "shop", "login")
    ok(repo, "var", "set", "API_KEY=as-it-was")
    return repo


def registered(repo: Path) -> tuple[Any, ...]:
    """Everything that the commands below could change."""
    held = {row["name"]: got(row["path"]) for row in rows(repo)}
    variables = json.loads(ok(repo, "var", "list", "--json"))
    instances = json.loads(ok(repo, "instance", "list", "--json"))
    return held, variables, instances, json.loads(ok(repo, "database", "snapshot", "list", "--json"))


COMMANDS = {
    "instance add": ("instance", "add", "pg", "--engine", "postgres", "--url", "-"),
    "instance add, a password": ("instance", "add", "pg", "--engine", "postgres", "--host", "127.0.0.1"),
    "instance edit": ("instance", "edit", "default", "--url", "-"),
    "instance move": ("instance", "move", "default", "--url", "-", "--yes"),
    "var set": ("var", "set", "API_KEY"),
    "var set --secret": ("var", "set", "API_KEY", "--secret"),
    "kv set": ("kv", "set", '["a"]', "-"),
    "kv set --raw": ("kv", "set", "--raw", '["a"]', "-"),
    "database load": ("database", "load", "login", "--replace", "--yes"),
    "database load -": ("database", "load", "login", "-", "--merge", "--yes"),
    "database diff": ("database", "diff", "login", "-"),
}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("which", COMMANDS)
def test_it_is_refused_and_changes_nothing(repo: Path, which: str, empty: str) -> None:
    before = registered(repo)
    refused = run(repo, "provisioner", *COMMANDS[which], stdin=EMPTY[empty])
    assert refused.returncode == 2, refused
    assert "is empty" in refused.stderr
    assert registered(repo) == before


@pytest.mark.parametrize("which", COMMANDS)
def test_closed_standard_input_is_empty_too(repo: Path, which: str) -> None:
    before = registered(repo)
    refused: Done = run(repo, "sh", "-c", 'provisioner "$@" <&-', "sh", *COMMANDS[which])
    assert (refused.returncode, "is empty" in refused.stderr) == (2, True), refused
    assert registered(repo) == before


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_dump_is_refused_as_a_file_too(repo: Path, tmp_path: Path, content: str) -> None:
    before = registered(repo)
    (tmp_path / "empty").write_text(content)
    refused = provisioner(repo, "database", "load", "login", tmp_path / "empty", "--replace", "--yes")
    assert (refused.returncode, "is empty" in refused.stderr) == (2, True), refused
    assert registered(repo) == before


@pytest.mark.parametrize("which", ["reset", "purge", "remove", "rotate", "delete", "unset"])
def test_empty_input_confirms_nothing(repo: Path, which: str) -> None:
    before = registered(repo)
    words = {
        "reset": ("database", "reset", "login"),
        "purge": ("database", "archive", "login"),
        "remove": ("app", "remove"),
        "rotate": ("token", "rotate-key"),
        "delete": ("instance", "delete", "default"),
        "unset": ("var", "unset", "API_KEY"),
    }[which]
    for stdin in EMPTY.values():
        refused = run(repo, "provisioner", *words, stdin=stdin)
        assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    closed = run(repo, "sh", "-c", 'provisioner "$@" <&-', "sh", *words)
    assert (closed.returncode, "--yes" in closed.stderr) == (1, True)
    assert registered(repo) == before


def test_what_comes_is_taken_as_it_is(repo: Path) -> None:
    run(repo, "provisioner", "var", "set", "API_KEY", stdin=" with spaces \n", check=True)
    assert ok(repo, "exec", "--", "printenv", "API_KEY") == " with spaces \n"
    ok(repo, "var", "set", "API_KEY=")
    assert ok(repo, "exec", "--", "printenv", "API_KEY") == "\n"
    run(repo, "provisioner", "kv", "set", "--raw", '["a"]', "-", stdin="\n text", check=True)
    assert ok(repo, "kv", "get", "--raw", '["a"]') == "\n text"
    dump = ok(repo, "database", "dump", "production")
    run(repo, "provisioner", "database", "load", "login", "--replace", "--yes", stdin=dump, check=True)
    assert ok(repo, "kv", "get", "--branch", "login", "--raw", '["a"]') == "\n text"


@pytest.mark.parametrize("begin", [0, 1, 70_000, 2_000_000])
def test_nothing_is_lost_of_what_begins_with_white_space(tmp_path: Path, begin: int) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"\n" * begin + b"first\n" + b"second\n" * 30_000)
    with path.open("rb") as source, standard_input.filled(source, "it", "a dump", "") as stream:
        assert stream.read() == path.read_bytes()


def test_several_lines_are_not_one_password(repo: Path) -> None:
    words = COMMANDS["instance add, a password"]
    refused = run(repo, "provisioner", *words, stdin="one\ntwo\n")
    assert (refused.returncode, "several lines" in refused.stderr) == (2, True)


TYPING = """
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execvp("provisioner", ["provisioner", "var", "set", "API_KEY"])
answers = [b"\\n", b"\\n", b"value\\n"]
said = b""
try:
    while piece := os.read(terminal, 1024):
        said += piece
        if said.endswith(b": ") and answers:  # what is typed before is not read
            os.write(terminal, answers.pop(0))
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_at_a_terminal_an_empty_value_is_asked_for_again(tmp_path: Path) -> None:
    repo = shop(tmp_path / "other")
    run(repo, sys.executable, "-c", TYPING, check=True)
    assert ok(repo, "exec", "--", "printenv", "API_KEY") == "value\n"
