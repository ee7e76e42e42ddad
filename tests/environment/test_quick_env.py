"""`env` without click prints what it prints with click, and fails as that does."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ok, provisioner, run, shop

from provisioner.environment.formats import FORMATS


@pytest.fixture
def repo(tmp_path: Path, home: Path) -> Path:
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "var", "set", "QUOTED=a 'b' $c \\\\ \"d\" é", "LINES=one\ntwo")
    ok(repo, "var", "set", "--context", "local", "LOCAL=1")
    return repo


@pytest.mark.parametrize("format_name", FORMATS)
def test_each_format_is_the_same_by_either_way(repo: Path, format_name: str) -> None:
    for words in (
        ["--branch", "login"],
        ["--timeline=production"],
        ["--app", "shop", "--branch=login", "--context", "local"],
    ):
        quick = provisioner(repo, "env", *words, "--format", format_name)
        slow = provisioner(repo, "-v", "env", *words, "--format", format_name)
        assert (quick.returncode, quick.stdout, quick.stderr) == (slow.returncode, slow.stdout, slow.stderr)
    quick, slow = (provisioner(repo, *words, "env", "--branch", "login", "--json") for words in ([], ["-v"]))
    assert quick.stdout == slow.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--branch", "none"],
        ["--branch", "none", "--json"],
        ["--branch"],
        ["--branch="],
        ["--nosuch"],
        ["--format", "none"],
        ["--format", "shell", "--json"],
        ["--branch", "login", "--timeline", "production"],
        ["--instance", "none"],
        ["--app", "none"],
        ["none"],
        ["--", "none"],
    ],
    ids=" ".join,
)
def test_each_failure_is_the_same_by_either_way(repo: Path, words: list[str]) -> None:
    quick = provisioner(repo, "env", *words)
    slow = provisioner(repo, "-v", "env", *words)
    assert quick.returncode == slow.returncode != 0
    assert (quick.stdout, quick.stderr) == (slow.stdout, slow.stderr)


def test_output_that_cannot_be_written_is_a_failure(repo: Path) -> None:
    for end in (">/dev/full", ">&-"):
        found = run(repo, "sh", "-c", f"provisioner env --branch login {end}")
        assert (found.returncode, "standard output cannot be written" in found.stderr) == (1, True)
