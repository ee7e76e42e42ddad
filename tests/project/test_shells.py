"""Every shell that `provisioner env` writes for reads what was meant, byte for byte, and runs nothing of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from nasty import NASTY, TEXTS, named, sourced
from paths import DOCS
from support import git, ok, run, shop, until

from provisioner.core.connection import STRAY
from provisioner.environment import formats

DOCUMENT = DOCS / "environment.md"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_read_what_was_meant(tmp_path: Path, shell: str) -> None:
    variables = named([*NASTY, "latin-\udce9"])
    path = tmp_path / "variables"
    path.write_bytes(formats.shell(variables).encode("utf-8", "surrogateescape"))
    assert sourced(shell, path, list(variables)) == [os.fsencode(value) for value in variables.values()]


@given(TEXTS)
def test_sh_reads_any_text(values: list[str]) -> None:
    variables = named(values)
    shown = " ".join(f'"${name}"' for name in variables)
    script = f"{formats.shell(variables)}printf '%s\\0' {shown}"
    result = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert result.stdout.decode().split("\0")[:-1] == values


def test_the_shell_format_takes_stray_variables_away(tmp_path: Path) -> None:
    path = tmp_path / "variables"
    path.write_text("DENO_KV_DB_MODE=memory\n" + formats.shell({"A": "1"}))
    assert sourced("sh", path, ["DENO_KV_DB_MODE", "A"]) == [b"unset", b"1"]


def by_fish(script: str, cwd: Path, add: dict[str, str] | None = None) -> dict[str, str]:
    """What a program that fish starts finds in its environment when fish has read the script."""
    done = subprocess.run(
        ["fish", "--no-config", "-c", "source; env -0"],
        input=os.fsencode(script),
        cwd=cwd,
        env={**os.environ, **(add or {})},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return dict(entry.split("=", 1) for entry in os.fsdecode(done.stdout).split("\0")[:-1])


def test_fish_reads_what_was_meant(tmp_path: Path) -> None:
    variables = named([*NASTY, "latin-\udce9"])
    read = by_fish(formats.fish(variables), tmp_path, dict.fromkeys(STRAY, "stray"))
    assert {name: read[name] for name in variables} == variables
    assert read.keys().isdisjoint(STRAY)


@given(TEXTS)
def test_fish_reads_any_text(values: list[str]) -> None:
    read = by_fish(formats.fish(named(values)), Path.cwd())
    assert {name: read[name] for name in named(values)} == named(values)


def _read_powershell(text: str) -> dict[str, str]:
    """Verbatim string literals by section 2.3.5.2 of PowerShell's language specification: a quote is written twice."""
    quotes = "'\u2018\u2019\u201a\u201b"
    literal = f"[{quotes}]((?:[^{quotes}]|[{quotes}]{{2}})*)[{quotes}]"
    found = {}
    position = 0
    for name in STRAY:
        line = f"Remove-Item Env:{name} -ErrorAction SilentlyContinue\n"
        assert text.startswith(line, position)
        position += len(line)
    while position < len(text):
        statement = re.compile(rf"\$env:(\w+) = {literal}\n").match(text, position)
        assert statement is not None, text[position:]
        position = statement.end()
        found[statement[1]] = re.sub(f"([{quotes}])[{quotes}]", r"\1", statement[2])
    return found


@given(TEXTS)
def test_powershell_reads_any_text(values: list[str]) -> None:
    variables = named([*values, *NASTY])
    assert _read_powershell(formats.powershell(variables)) == variables


PLACES = {
    "sh": 'eval "$(provisioner env --branch "$BRANCH")"; exec env -0',
    "bash": 'eval "$(provisioner env --branch "$BRANCH")"; exec env -0',
    "fish": 'provisioner env --branch "$BRANCH" --format fish | source; env -0',
}


@pytest.mark.parametrize("shell", PLACES)
def test_what_the_command_prints_is_the_environment_of_exec(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the documents, with a home and a branch whose names are hard to quote."""
    monkeypatch.setenv("PROVISIONER_HOME", str(tmp_path / 'a "home"\nof it\'s $HOME \\ `id` 日本語'))
    branch = 'it\'s-"$HOME"-`id`-\udce9'
    repo = shop(tmp_path / "shop", branch)
    add = {"BRANCH": branch, **dict.fromkeys(STRAY, "stray")}

    def environment(*command: str) -> dict[str, str]:
        entries = run(repo, *command, check=True, add=add).stdout.split("\0")[:-1]
        read = dict(entry.split("=", 1) for entry in entries)
        return {name: read[name] for name in read.keys() - {"_", "SHLVL", "PWD", "OLDPWD", "USER"}}  # shells set these

    expected = environment("provisioner", "exec", "--branch", branch, "--", "env", "-0")
    assert expected["DENO_TIMELINE"] == f"git-branch/{branch}"
    assert environment(shell, "-c", PLACES[shell]) == expected


# direnv


def envrc() -> str:
    found = re.search(r"With direnv.*?```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_direnv_follows_the_branch_and_says_where_there_is_no_database(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    tree = tmp_path / "tree"
    git(repo, "worktree", "add", "-q", tree, "login")
    environment: dict[str, str | None] = {}

    def prompt(place: Path) -> str:
        """What direnv does before each prompt of a shell: it changes the shell's environment where it has to."""
        add = {name: value for name, value in environment.items() if value is not None}
        done = run(place, "direnv", "export", "json", check=True, add=add)
        environment.update(json.loads(done.stdout or "{}"))
        return done.stderr

    def switch(place: Path, *where: str) -> None:
        """In another second than the last time, or direnv does not see it."""
        head = place / git(place, "rev-parse", "--git-path", "HEAD").stdout.strip()
        until(lambda: int(time.time()) > int(head.stat().st_mtime))
        git(place, "switch", "-q", *where)

    for place in (repo, tree):
        (place / ".envrc").write_text(envrc())
        run(place, "direnv", "allow", check=True)
    prompt(repo)
    assert environment["DENO_TIMELINE"] == "production"
    switch(repo, "-c", "new")
    ok(repo, "reconcile")
    prompt(repo)
    assert environment["DENO_TIMELINE"] == "git-branch/new"
    prompt(tree)
    assert environment["DENO_TIMELINE"] == "git-branch/login"
    switch(tree, "--detach")
    told = prompt(tree)
    assert environment["DENO_TIMELINE"] is None
    assert environment["DENO_KV_DEFAULT_PATH"] is None
    assert "HEAD is detached" in told
    assert "no database for this branch" in told
    prompt(repo)
    assert environment["DENO_TIMELINE"] == "git-branch/new"
