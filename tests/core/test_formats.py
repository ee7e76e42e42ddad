"""What is written for a file's reader is what that reader reads, byte for byte, or it is refused."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import time
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from nasty import NASTY, TEXTS, named, sourced
from support import git, ok, provisioner, shop

from provisioner.core.connection import STRAY
from provisioner.core.errors import UsageError
from provisioner.environment import env_block, formats
from provisioner.environment.dotenv import parse

# .env files


def _dotenv_readable(values: list[str]) -> dict[str, str]:
    readable = {}
    for name, value in named(values).items():
        try:
            formats.dotenv({name: value})
        except UsageError:
            continue
        readable[name] = value
    return readable


REFUSED = [
    "${HOME}",
    "a\\\\b",
    "ends\\",
    "cr\rhere",
    "\\",
    "it's \\ x",
    "it's \\n",
    "it's $HOME",
    'it\'s "q"',
    "it's `id`",
    'git-branch/it\'s-"$HOME"-`id`',
]


def test_the_dotenv_format_refuses_only_what_its_readers_disagree_on() -> None:
    assert [value for value in NASTY if value not in _dotenv_readable(NASTY).values()] == REFUSED


@pytest.mark.parametrize("value", [*REFUSED, "latin-\udce9"])
def test_a_refused_value_is_named_with_a_way_out(value: str) -> None:
    with pytest.raises(UsageError, match=r"value of DENO_TIMELINE .*(another format|Use shell)"):
        formats.dotenv({"DENO_TIMELINE": value})


def test_all_readers_of_dotenv_files_agree(tmp_path: Path) -> None:
    some = [f"{before}{char}{after}" for char in "'\"$\\`\n# " for before in ("", "a", "it's ") for after in ("", "b")]
    variables = _dotenv_readable(NASTY + some)
    path = tmp_path / ".env"
    path.write_text(formats.dotenv(variables), newline="")

    assert dotenv_values(path) == variables
    assert sourced("sh", path, list(variables)) == [os.fsencode(value) for value in variables.values()]
    assert sourced("bash", path, list(variables)) == [os.fsencode(value) for value in variables.values()]
    assert _by_node(path, variables) == _by_deno(path, variables) == variables


def test_all_readers_agree_on_any_text_and_ours_is_one_of_them(tmp_path: Path) -> None:
    """Random texts of what is special somewhere, all in one file for each reader."""
    dice = random.Random(time.time_ns() if os.environ.get("KV_NIGHTLY") else 14)
    number = 20_000 if os.environ.get("KV_NIGHTLY") else 2_000
    alphabet = "'\"\\\\\\$`\n\t #=!{}&;|<>()*?[]~%0anrtvbfux é🌱\x01\x7f\u2028"
    texts = ["".join(dice.choices(alphabet, k=dice.randint(0, 12))) for _ in range(number)]
    variables = _dotenv_readable(texts)
    assert len(variables) > number // 4
    path = tmp_path / ".env"
    text = formats.dotenv(variables)
    path.write_text(text, newline="")

    assert parse(".env", text) == variables
    assert dotenv_values(path) == variables
    assert _by_node(path, variables) == _by_deno(path, variables) == variables
    for shell in ("sh", "bash", "zsh"):
        assert _by_shell(shell, path, variables) == variables
    for shell, written in (
        ("sh", formats.shell),
        ("bash", formats.shell),
        ("zsh", formats.shell),
        ("fish", formats.fish),
    ):
        every = named(texts)
        path.write_text(written(every), newline="")
        assert _by_shell(shell, path, every) == every


def _by_shell(shell: str, path: Path, variables: dict[str, str]) -> dict[str, str]:
    """Of a program that a shell starts once it has read the file."""
    read = "source" if shell == "fish" else "."
    script = f"{read} {path}; env -0" if shell == "fish" else f"set -a; {read} {path}; env -0"
    found = subprocess.run([shell, "-c", script], capture_output=True, check=True).stdout
    pairs = (entry.split("=", 1) for entry in os.fsdecode(found).split("\0")[:-1])
    return {name: value for name, value in pairs if name in variables}


def _by_node(path: Path, variables: dict[str, str]) -> dict[str, str]:
    return _by_program(["node", f"--env-file={path}", "-e"], "process.env[name]", variables)


def _by_deno(path: Path, variables: dict[str, str]) -> dict[str, str]:
    return _by_program(["deno", "eval", f"--env-file={path}"], "Deno.env.get(name)", variables)


def _by_program(command: list[str], read: str, variables: dict[str, str]) -> dict[str, str]:
    program = f"console.log(JSON.stringify({json.dumps(list(variables))}.map((name) => {read})))"
    found = subprocess.run([*command, program], capture_output=True, check=True)
    return dict(zip(variables, json.loads(found.stdout), strict=True))


@given(TEXTS)
def test_python_dotenv_reads_any_text_that_is_not_refused(values: list[str]) -> None:
    variables = _dotenv_readable(values)
    assert dotenv_values(stream=StringIO(formats.dotenv(variables))) == variables


# the other formats


@given(TEXTS)
def test_json_is_one_object(values: list[str]) -> None:
    assert json.loads(formats.json(named(values))) == named(values)


def _read_systemd(text: str) -> dict[str, str]:
    """The double-quoted part of parse_env_file_internal() in systemd's src/basic/env-file.c."""
    found = {}
    position = 0
    while position < len(text):
        name, _, rest = text[position:].partition("=")
        assert rest.startswith('"')
        position = len(text) - len(rest) + 1
        value = ""
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                if text[position] in '"\\`$':
                    value += text[position]
                elif text[position] != "\n":
                    value += "\\" + text[position]
            else:
                value += text[position]
            position += 1
        assert text[position : position + 2] == '"\n'
        position += 2
        found[name] = value
    return found


@given(TEXTS)
def test_systemd_reads_any_text(values: list[str]) -> None:
    assert _read_systemd(formats.systemd(named(values))) == named(values)


def _read_github(text: str) -> dict[str, str]:
    """The heredoc part of the Actions runner's FileCommandManager.cs."""
    found = {}
    lines = iter(text.removesuffix("\n").split("\n"))
    for line in lines:
        name, _, end = line.partition("<<")
        held = []
        while (held_line := next(lines)) != end:
            held.append(held_line)
        found[name] = "\n".join(held)
    return found


@given(TEXTS)
def test_github_reads_any_text_and_loses_stray_variables(values: list[str]) -> None:
    read = _read_github(formats.github(named([*values, *NASTY])))
    assert {name: read.pop(name) for name in STRAY} == dict.fromkeys(STRAY, "")
    assert read == named([*values, *NASTY])


def test_docker_takes_lines_as_they_are() -> None:
    values = [value for value in NASTY if "\n" not in value and "\r" not in value]
    read = dict(line.split("=", 1) for line in formats.docker(named(values)).removesuffix("\n").split("\n"))
    assert read == named(values)
    for value in ("two\nlines", "cr\rhere"):
        with pytest.raises(UsageError, match="line break"):
            formats.docker({"A": value})


@pytest.mark.parametrize("name", ["docker", "github", "systemd", "dotenv"])
def test_what_is_not_utf8_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        formats.FORMATS[name]({"A": "latin-\udce9"})


# blocks in files

_USERS = [
    b"",
    b"A=1\n",
    b"A='latin-\xe9'\nB=2\n",
    b"\n\n# mine\n\tC = \x00\x01\n",
    "# é\u2028x\n".encode(),
]


@pytest.mark.parametrize("before", _USERS)
@pytest.mark.parametrize("after", _USERS)
def test_a_users_text_stays_as_it_is(tmp_path: Path, before: bytes, after: bytes) -> None:
    directory = tmp_path / "top"
    directory.mkdir()
    path = directory / ".env.local"
    path.write_bytes(before)
    path.chmod(0o640)
    env_block.write(str(path), "X=1\n")
    block = (env_block.BEGIN + "X=1\n" + env_block.END).encode()
    assert path.read_bytes() == before + block
    path.write_bytes(before + block + after)
    env_block.write(str(path), "X=22\nY=3\n")
    assert path.read_bytes() == before + (env_block.BEGIN + "X=22\nY=3\n" + env_block.END).encode() + after
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(directory) == [".env.local"]


def test_a_new_file_is_private_and_a_link_stays_one(tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    env_block.write(str(path), "X=1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    link = tmp_path / "link"
    link.symlink_to(path.name)
    env_block.write(str(link), "X=2\n")
    assert link.is_symlink()
    assert dotenv_values(path) == {"X": "2"}


def test_a_block_without_an_end_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(env_block.BEGIN + "X=1\n")
    with pytest.raises(UsageError, match="has no end"):
        env_block.write(str(path), "X=2\n")
    assert path.read_text() == env_block.BEGIN + "X=1\n"


def test_a_block_follows_the_checkout_and_is_emptied_where_nothing_is_connected(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    file = repo / ".env.local"
    file.write_bytes(b"MINE=1\r\n")
    ok(repo, "env", "--write", ".env.local")
    assert dotenv_values(file)["DENO_TIMELINE"] == "production"
    ok(repo, "init")
    git(repo, "switch", "-q", "login")
    assert dotenv_values(file)["DENO_TIMELINE"] == "git-branch/login"
    git(repo, "switch", "-q", "--detach")
    assert dotenv_values(file) == {"MINE": "1"}
    assert "# not connected: HEAD is detached" in file.read_text()
    assert file.read_bytes().startswith(b"MINE=1\r\n")
    assert provisioner(repo, "env", "--write", ".env.local").returncode == 3
