"""What a person sees at a real terminal of 80 and of 120 columns, from init to a restore."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import git, ok, repository
from terminal_session import shown_at, terminal

pytestmark = pytest.mark.slow


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "shop", "login")


@pytest.mark.parametrize("columns", [80, 120])
def test_from_init_to_a_restore_at_a_terminal(repo: Path, columns: int) -> None:
    said = shown_at(repo, "provisioner", "init", "--no-hooks", columns=columns)
    assert "Registered app shop with production branch main. 2 databases on default (deno-kv) are ready\n" in said
    ok(repo, "kv", "set", '["a"]', "1", "--branch", "main")
    git(repo, "switch", "-q", "login")
    with terminal(repo, "provisioner", "database", "fork", "production", columns=columns) as session:
        asked = session.until(r"\[y/N\]")
        assert "Replace git-branch/login's data with a copy of production?" in asked.replace("\n", " ")
        session.type("y\n")
        assert re.search(r"Forked shop-production-\w+ to shop--login-\w+", session.to_the_end())
    for words in (["status"], ["database", "list"], ["timeline", "list"], ["database", "snapshot", "list"]):
        listed = shown_at(repo, "provisioner", *words, columns=columns)
        lines = listed.splitlines()
        assert len(lines) >= 2
        assert lines[0] == lines[0].upper()
        assert all(len(line) <= columns for line in lines), listed
    ok(repo, "database", "snapshot", "create", "--label", "before-import")
    ok(repo, "kv", "set", '["a"]', "2")
    assert "1 changed" in shown_at(repo, "provisioner", "database", "diff", "--stat", columns=columns)
    shown_at(repo, "provisioner", "database", "restore", "@", "before-import", "--yes", columns=columns)
    assert ok(repo, "kv", "get", '["a"]') == "1\n"
