"""The table of exit codes in the documentation is what commands end with, and every failure names the next step."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from paths import DOCS
from support import marked_shop, provisioner
from terminal_session import terminal

ROWS = re.findall(
    r"^\| (\d+) \| ([^|]*) \| (?:`(provisioner [^`]*)`)? ?\|$", (DOCS / "command-line.md").read_text(), re.M
)
EXAMPLES = [(int(code), command) for code, _, command in ROWS if command]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return marked_shop(tmp_path / "shop", "login")


def test_the_table_has_every_code_once_or_with_examples() -> None:
    assert {int(code) for code, _, _ in ROWS} == {0, 1, 2, 3, 126, 127, 130, 141}


@pytest.mark.parametrize(("code", "command"), EXAMPLES)
def test_an_example_of_the_table_ends_with_its_code(repo: Path, code: int, command: str) -> None:
    done = provisioner(repo, *shlex.split(command)[1:])
    assert done.returncode == code, done
    if code == 3:
        last = done.stderr.splitlines()[-1]
        assert re.search(r"[.?] [A-Z]", last), last  # what failed, then what to do


def test_ctrl_c_at_a_prompt_is_130_and_no_is_1(repo: Path) -> None:
    for answer, code in (("\x03", 130), ("n\n", 1)):
        with terminal(repo, "sh", "-c", "trap : INT; provisioner database reset login; echo ended with $?") as session:
            session.until(r"\[y/N\]")
            session.type(answer)
            session.until(f"ended with {code}\n")


def test_output_that_is_not_read_to_its_end_is_141(repo: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(["provisioner", "status"], cwd=repo, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, b"")
    assert process.returncode != -signal.SIGPIPE
