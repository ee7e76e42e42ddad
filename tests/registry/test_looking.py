"""Commands that show something change nothing: no registry, no database, no file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from old_home import back_to_version_2, home_files
from support import git, ok, provisioner, shop, statuses

pytestmark = pytest.mark.slow

LISTS = (
    "app list",
    "app show",
    "database list",
    "database show main",
    "database snapshot list",
    "home show",
    "hooks status",
    "instance list",
    "instance list --deleted",
    "instance show default",
    "preview list",
    "prune --dry-run",
    "reconcile --dry-run",
    "status",
    "status --all --json",
    "status main",
    "timeline list",
    "timeline show main",
    "token list",
    "var list",
)
OF_A_BRANCH = ("status", "database list", "database show", "database snapshot list", "timeline show", "timeline log")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def test_what_shows_an_older_home_leaves_it_as_it_is(repo: Path, home: Path) -> None:
    known = {words: provisioner(repo, *words.split()).stdout for words in LISTS}
    (home / "reserve").unlink()
    back_to_version_2(home / "registry.db")
    (home / "identity").unlink()
    before = home_files(home)
    for words in LISTS:
        done = provisioner(repo, *words.split())
        assert done.returncode == (words == "hooks status"), (words, done)
        assert home_files(home) == before, words
        assert ("connected" in done.stdout) == ("connected" in known[words]), (words, done.stdout)


def test_what_shows_a_branch_does_not_provision_it(repo: Path, home: Path) -> None:
    git(repo, "commit", "-q", "--allow-empty", "-m", "of production alone")
    ok(repo, "reconcile")
    before = statuses(repo)
    git(repo, "branch", "new")
    files = home_files(home)
    for words in OF_A_BRANCH:
        done = provisioner(repo, *words.split(), "new")
        assert done.returncode == 3, (words, done)
        assert "provisioner reconcile" in done.stderr, (words, done.stderr)
        assert home_files(home) == files, words
    assert provisioner(repo, "status", "--branch", "new").returncode == 3
    assert provisioner(repo, "status", "--revision", "HEAD").returncode == 0
    assert statuses(repo) == before


def test_what_shows_something_leaves_env_files_alone(repo: Path, home: Path) -> None:
    ok(repo, "env", "--write", ".env.local", "--format", "dotenv")
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        registry.execute("update database set status = 'error', error = 'lost'")
    kept = (repo / ".env.local").read_text()
    for words in LISTS:
        provisioner(repo, *words.split())
        assert (repo / ".env.local").read_text() == kept, words
    ok(repo, "var", "set", "A=1")
    assert (repo / ".env.local").read_text() != kept
