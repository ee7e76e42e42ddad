"""What `provisioner status` shows on a terminal: one line a database, that fits, and no archived branches."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from support import git, ok, provisioner, shop

BRANCH = "feature/a-long-name-of-a-branch-that-somebody-has-made"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = shop(tmp_path / "shop", BRANCH, "old")
    git(repo, "branch", "-D", "old")
    ok(repo, "reconcile")
    return repo


def on_terminal(cwd: Path, columns: int, *words: str) -> list[str]:
    """The lines that a terminal of this width gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"NO_COLOR": "1"}
    with subprocess.Popen(
        ["provisioner", *words], cwd=cwd, stdout=theirs, stderr=theirs, stdin=theirs, env=environ
    ) as it:
        os.close(theirs)
        read = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            read += piece
        assert it.wait() == 0, read
    os.close(ours)
    return read.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_status_fits_the_terminal_with_one_line_a_database(repo: Path, columns: int) -> None:
    heading, *rows, hidden = on_terminal(repo, columns, "status")
    assert (
        heading.split()[:3]
        == (["APP"] if columns > 40 else []) + ["TIMELINE", "STATUS", "DATABASE"][: 3 - (columns > 40)]
    )
    assert len(rows) == 2
    assert all(len(line) <= columns for line in (heading, *rows))
    assert hidden == "1 archived timeline is hidden. To show it: provisioner status --archived"
    assert ("AGE" in heading) == (columns >= 80)


def test_archived_timelines_are_hidden_unless_they_are_asked_for(repo: Path) -> None:
    usual = provisioner(repo, "status")
    assert "git-branch/old" not in usual.stdout
    assert "1 archived timeline is hidden" in usual.stderr
    for words in (("--archived",), ("--all",), ("--timeline", "git-branch/old")):
        shown = provisioner(repo, "status", *words)
        assert "git-branch/old" in shown.stdout, words
        assert "hidden" not in shown.stderr
    assert "git-branch/old" in {item["timeline"] for item in json.loads(ok(repo, "status", "--json"))}


def test_a_pipe_cuts_nothing_unless_columns_is_set_and_wide_never_does(repo: Path) -> None:
    assert f"git-branch/{BRANCH}" in ok(repo, "status")
    assert f"git-branch/{BRANCH}" in ok(repo, "status", "--wide", add={"COLUMNS": "60"})
    narrow = ok(repo, "status", add={"COLUMNS": "60"})
    assert f"git-branch/{BRANCH}" not in narrow
    assert all(len(line) <= 60 for line in narrow.splitlines())


def test_why_something_failed_is_shown_in_full_under_a_narrow_table(repo: Path) -> None:
    provisioner(repo, "app", "set", "--pre-deploy", "echo the-reason-why >&2; false")
    shown = on_terminal(repo, 60, "status")
    assert all(len(line) <= 60 for line in shown[:3])
    assert any("exit code" in line or "the-reason-why" in line for line in shown[3:]), shown
