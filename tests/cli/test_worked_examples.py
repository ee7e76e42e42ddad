"""What a person sees at a real terminal of 80 and of 120 columns, from init to a restore."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import bare, git, ok, provisioner, repository
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


def test_a_worktree_has_its_own_data_and_shows_what_it_changed(repo: Path, tmp_path: Path) -> None:
    ok(repo, "init", "--no-hooks", "--new-branch", "parent")
    ok(repo, "kv", "set", '["price"]', "3")
    git(repo, "worktree", "add", "-qb", "fix", tmp_path / "shop-fix")
    fix = tmp_path / "shop-fix"
    ok(fix, "exec", "--", "provisioner", "kv", "set", '["price"]', "9")
    assert re.fullmatch(
        r"shop-production-\w+ and shop--fix-\w+: 0 added, 1 changed, 0 removed\n", ok(fix, "database", "diff", "--stat")
    )
    assert ok(repo, "kv", "get", '["price"]') == "3\n"
    ok(fix, "database", "fork", "production", "--yes")
    assert ok(fix, "kv", "get", '["price"]') == "3\n"
    previous = json.loads(ok(fix, "database", "snapshot", "list", "@", "--json"))[0]["id"]
    restored = ok(fix, "database", "restore", "@", previous[:8], "--yes")
    assert re.search(r"^Restored shop--fix-\w+ to .*\nPrevious data: snapshot ", restored)
    assert ok(fix, "kv", "get", '["price"]') == "9\n"


def test_ci_uses_exact_selectors_and_exit_codes(repo: Path) -> None:
    ok(repo, "init", "--no-hooks")
    outside = repo.parent
    assert (
        ok(outside, "exec", "--app", "shop", "--branch", "login", "--", "printenv", "DENO_TIMELINE")
        == "git-branch/login\n"
    )
    assert (
        provisioner(outside, "exec", "--app", "shop", "--branch", "login", "--", "sh", "-c", "exit 7").returncode == 7
    )
    refused = provisioner(outside, "exec", "--app", "shop", "--branch", "nope", "--", "true")
    assert (refused.returncode, refused.stdout) == (3, "")
    refused = provisioner(outside, "database", "reset", "--app", "shop", "--branch", "nope", "--yes", "--json")
    assert (refused.returncode, refused.stdout) == (3, "")
    error = json.loads(refused.stderr)["error"]
    assert (error["code"], error["exit_code"], error["candidates"]) == ("not-found", 3, [])
    assert "nope" in error["message"]
    unconfirmed = provisioner(outside, "database", "reset", "shop:login", "--json")
    assert (unconfirmed.returncode, json.loads(unconfirmed.stderr)["error"]["code"]) == (1, "not-confirmed")


def test_a_push_to_a_team_s_server_gets_a_scrubbed_copy_and_says_so(tmp_path: Path) -> None:
    laptop = repository(tmp_path / "laptop")
    server = bare(tmp_path / "shop.git", laptop)
    git(laptop, "remote", "add", "origin", server)
    ok(tmp_path, "app", "add", str(server), "--name", "shop")
    ok(tmp_path, "instance", "add", "shop-kv")
    (tmp_path / "clean.py").write_text(
        "import os\nfrom provisioner.kv import open_kv\n"
        "with open_kv(os.environ['DENO_KV_DEFAULT_PATH']) as kv:\n    kv.delete(('mail',))\n"
    )
    ok(tmp_path, "assign", "shop-kv", "shop", "--new-branch", "production", "--scrub", "clean.py")
    ok(tmp_path, "hooks", "install", "shop")
    for key in ('["mail"]', '["price"]'):
        ok(tmp_path, "kv", "set", "--app", "shop", "--timeline", "production", key, "1")
    git(laptop, "switch", "-qc", "login")
    pushed = git(laptop, "push", "origin", "login").stderr
    assert re.search(r"remote: provisioner: git-branch/login connected shop--login-\w+", pushed), pushed
    assert ok(tmp_path, "kv", "list", "--app", "shop", "--branch", "login") == '["price"]\t1\n'
    (document,) = json.loads(ok(tmp_path, "status", "shop:login", "--json"))
    assert (document["status"], document["state"], document["gone"], document["url"]) == (
        "connected",
        None,
        False,
        None,
    )
