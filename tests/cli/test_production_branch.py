"""The production branch is the remote's default, else the usual one, else a person's word; never a typo."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from support import bare, files, git, got, ok, provisioner, put, repository, run

pytestmark = pytest.mark.slow


def production(repo: Path) -> str:
    return str(json.loads(ok(repo, "app", "show", "--json"))["production_branch"])


def at_a_terminal(cwd: Path, answer: str, *words: str) -> tuple[int, str]:
    """The command with a terminal as its standard input: its exit code, and what it printed."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            ["provisioner", *words], cwd=cwd, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
    finally:
        os.close(theirs)
        os.close(ours)
    return done.returncode, done.stdout.decode()


def test_the_branch_that_is_checked_out_is_not_production_where_main_exists(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "feature")
    git(repo, "switch", "-q", "feature")
    ok(repo, "init", "--no-hooks")
    assert production(repo) == "main"


@pytest.mark.parametrize("remote", ["origin", "upstream"])
def test_the_remote_says_which_branch_is_the_default(tmp_path: Path, remote: str) -> None:
    origin = repository(tmp_path / "origin", "feature", "main-2")
    git(origin, "branch", "-m", "main", "develop")
    git(tmp_path, "clone", "-q", "-o", remote, "-b", "feature", "origin", "clone")
    clone = tmp_path / "clone"
    git(clone, "branch", "main")
    git(clone, "branch", "trunk")
    ok(clone, "init", "--no-hooks")
    assert production(clone) == "develop"


def test_a_default_branch_that_the_remote_no_longer_has_is_not_taken(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin")
    git(origin, "branch", "-m", "main", "master")
    git(tmp_path, "clone", "-q", "origin", "clone")
    git(origin, "branch", "-m", "master", "main")
    clone = tmp_path / "clone"
    git(clone, "switch", "-q", "-c", "feature")
    git(clone, "branch", "-D", "master")
    git(clone, "fetch", "-q")
    git(clone, "update-ref", "-d", "refs/remotes/origin/master")  # its origin/HEAD still names it
    git(clone, "branch", "main", "origin/main")
    ok(clone, "init", "--no-hooks")
    assert production(clone) == "main"


def test_a_bare_repository_says_it_by_its_head_where_that_branch_exists(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", "develop")
    git(origin, "branch", "trunk")
    hub = bare(tmp_path / "hub.git", origin)
    git(hub, "symbolic-ref", "HEAD", "refs/heads/develop")
    ok(hub, "init", "--no-hooks", "--name", "develops")
    assert production(hub) == "develop"
    other = bare(tmp_path / "other.git", repository(tmp_path / "another", "feature"))
    git(other, "symbolic-ref", "HEAD", "refs/heads/master")  # as `git init --bare` leaves it
    ok(other, "init", "--no-hooks", "--name", "mains")
    assert production(other) == "main"


def test_an_empty_repository_begins_with_the_branch_that_head_names(tmp_path: Path) -> None:
    repo = tmp_path / "shop"
    git(tmp_path, "init", "-q", "-b", "release", "shop")
    ok(repo, "init", "--no-hooks")
    assert production(repo) == "release"
    git(tmp_path, "init", "-q", "other")
    ok(tmp_path / "other", "init", "--no-hooks", "--production-branch", "live")
    assert production(tmp_path / "other") == "live"


@pytest.mark.parametrize("command", [("init", "--no-hooks"), ("app", "add")], ids=["init", "app add"])
@pytest.mark.parametrize("present", [("develop",), ("main", "master"), ("main", "trunk", "feature")], ids="-".join)
def test_without_a_terminal_an_unclear_one_is_a_usage_error(
    tmp_path: Path, present: tuple[str, ...], command: tuple[str, ...]
) -> None:
    repo = repository(tmp_path / "shop", *(name for name in present if name != "main"))
    if "main" not in present:
        git(repo, "switch", "-q", present[0])
        git(repo, "branch", "-D", "main")
    refused = provisioner(repo, *command)
    assert refused.returncode == 2, refused
    assert "--production-branch" in refused.stderr
    assert all(name in refused.stderr for name in present)
    assert json.loads(ok(repo, "app", "list", "--json")) == []
    ok(repo, *command, "--production-branch", present[-1])
    assert production(repo) == present[-1]


def test_at_a_terminal_it_is_asked_for(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "develop", "master")
    code, said = at_a_terminal(repo, "mian\nmaster\n", "init", "--no-hooks")
    assert (code, "Production branch" in said) == (0, True), said
    assert production(repo) == "master"


def test_a_branch_that_does_not_exist_is_refused_with_the_ones_that_are_called_alike(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "release", "feature")
    refused = provisioner(repo, "init", "--no-hooks", "--production-branch", "mian")
    assert refused.returncode == 2
    assert "no branch 'mian'" in refused.stderr
    assert "main" in refused.stderr.partition("mian")[2]
    assert json.loads(ok(repo, "app", "list", "--json")) == []

    ok(repo, "init", "--no-hooks", "--grace", "0s")
    put(files(repo)["main"], "precious")
    for typo, meant in (("relaese", "release"), ("nothing-like-it", "feature, main, release")):
        refused = provisioner(repo, "app", "set", "--production-branch", typo)
        assert refused.returncode == 2, refused
        assert f"no branch '{typo}'" in refused.stderr
        assert meant in refused.stderr
    assert production(repo) == "main"
    assert {name: got(file) for name, file in files(repo).items()} == {"main": "precious", "release": "", "feature": ""}
    ok(repo, "app", "set", "--production-branch", "release")
    assert production(repo) == "release"


def test_one_that_only_the_remote_has_is_no_typo(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", "live", "feature")
    git(tmp_path, "clone", "-q", "-b", "feature", "origin", "clone")
    ok(tmp_path / "clone", "init", "--no-hooks", "--production-branch", "live")
    assert production(tmp_path / "clone") == "live"
    assert origin.exists()


def test_what_is_said_already_may_be_said_again_while_its_branch_is_gone(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "init", "--no-hooks")
    git(repo, "branch", "-m", "main", "away")
    done = provisioner(repo, "app", "set", "--production-branch", "main", "--retention", "9d")
    assert "no branch" not in done.stderr
    assert json.loads(ok(repo, "app", "show", "--json"))["retention_ms"] == 9 * 86_400_000


def test_the_choice_does_not_depend_on_the_kind_of_refs(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "feature")
    git(repo, "switch", "-q", "feature")
    git(repo, "pack-refs", "--all")
    ok(repo, "init", "--no-hooks")
    assert production(repo) == "main"
    sha256 = tmp_path / "sha256"
    run(tmp_path, "git", "init", "-q", "--object-format=sha256", sha256, check=True)
    git(sha256, "commit", "-q", "--allow-empty", "-m", "first")
    git(sha256, "switch", "-q", "-c", "feature")
    ok(sha256, "init", "--no-hooks")
    assert production(sha256) == "main"
