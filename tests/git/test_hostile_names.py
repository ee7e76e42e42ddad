"""Names that somebody else chose: git allows them, and a terminal, a log and a file take them for what they are not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import bare, commit, connected, daemon, git, ok, provisioner, repository, run, until

# U+009B begins an escape sequence as ESC [ does; U+202E turns the rest of the line around; U+2028 and U+0085 end a line
CLEAR = "\u009b2J\u009b1;1H"
TURN = "\u202e"
LINES = "one\u2028two\u0085three"
BRANCHES = (f"clear{CLEAR}", f"turn{TURN}txt", LINES, "x/--upload-pack=id", "$(touch${IFS}owned)", "a';id;'b", "%s%n")
HARMFUL = ("\u009b", "\u202e", "\u2028", "\u0085", "\x1b")


def _harmless(text: str) -> bool:
    return not any(char in text for char in HARMFUL)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    shop = repository(tmp_path / "shop")
    ok(shop, "init", "--no-hooks")
    for name in BRANCHES:
        git(shop, "branch", name)
    ok(shop, "reconcile")
    return shop


def test_nothing_that_is_printed_for_people_steers_their_terminal(shop: Path) -> None:
    assert connected(shop) == {"main", *BRANCHES}
    for command in (
        ("status",),
        ("database", "list"),
        ("reconcile", "--dry-run"),
        ("doctor",),
        ("app", "show"),
        ("init", "--no-hooks"),
        ("app", "set", "--production-branch", f"none{CLEAR}"),
        ("reconcile", "--dry-run"),
        ("doctor",),
        ("exec", "--branch", f"none{CLEAR}", "--", "true"),
        ("env", "--branch", f"none{TURN}"),
        ("database", "show", f"none{CLEAR}"),
    ):
        done = provisioner(shop, *command)
        assert _harmless(done.stdout), command
        assert _harmless(done.stderr), command
    assert not (shop / "owned").exists()


def test_each_is_resolved_and_given_to_programs_as_it_is(shop: Path) -> None:
    for name in BRANCHES:
        got = ok(shop, "exec", "--branch", name, "--", "printenv", "DENO_TIMELINE")
        assert got == f"git-branch/{name}\n"
        text = ok(shop, "env", "--branch", name)
        read = run(shop, "sh", "-c", f'{text}\nprintf %s "$DENO_TIMELINE"', check=True)
        assert read.stdout == f"git-branch/{name}"
        values = json.loads(ok(shop, "env", "--branch", name, "--format", "json"))
        assert values["DENO_TIMELINE"] == f"git-branch/{name}"
    assert not (shop / "owned").exists()


@pytest.mark.parametrize("running", [False, True])
def test_what_a_pusher_reads_does_not_steer_the_terminal(tmp_path: Path, home: Path, running: bool) -> None:
    client = repository(tmp_path / "client")
    server = bare(tmp_path / "server.git", client)
    ok(server, "init")

    def push() -> bytes:
        refs = [f"main:refs/heads/{name}" for name in BRANCHES]
        done = subprocess.run(["git", "push", "-q", "hub", *refs], cwd=client, capture_output=True, check=True)
        return done.stderr

    if running:
        with daemon(home, "provisioner", "watch") as watch:
            said = push()
            until(lambda: connected(server) == {"main", *BRANCHES})
            log = watch.log.read_text()
        assert _harmless(log)
    else:
        said = push()
    lines = [line for line in said.decode().split("\n") if "provisioner:" in line]
    assert len(lines) == len(BRANCHES)
    assert all(_harmless(line) and " connected " in line for line in lines)


def test_the_hook_that_keeps_env_files_up_says_it_harmlessly(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    ok(shop, "init")
    ok(shop, "env", "--write", ".env.local")
    for name in BRANCHES[:3]:
        said = git(shop, "switch", "-q", "-c", name).stderr
        assert "is connected to git-branch/" in said
        assert _harmless(said)
    shop.joinpath(".env.local").unlink()
    commit(shop, "still works")


def test_an_option_is_never_taken_from_a_name(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    ok(shop, "init", "--no-hooks")
    # git itself makes no such branch; a plumbing command does
    head = git(shop, "rev-parse", "HEAD").stdout.strip()
    git(shop, "update-ref", "refs/heads/--help", head)
    ok(shop, "reconcile")
    assert connected(shop) == {"main", "--help"}
    done = ok(shop, "exec", "--branch=--help", "--", "printenv", "DENO_TIMELINE")
    assert done == "git-branch/--help\n"
    git(shop, "update-ref", "-d", "refs/heads/--help")
    ok(shop, "reconcile")
    assert sorted(os.listdir(shop)) == [".git", "file"]


def test_a_name_that_two_timelines_go_by_means_neither(tmp_path: Path) -> None:
    repo = repository(tmp_path / "two")
    ok(repo, "init", "--no-hooks")
    revision = git(repo, "rev-parse", "HEAD").stdout.strip()
    ok(repo, "preview", "create", revision)
    git(repo, "branch", f"preview/{revision}")
    git(repo, "switch", "--quiet", "--create", "production")
    ok(repo, "reconcile")
    (tmp_path / "dump").write_text(ok(repo, "database", "dump", "main"))
    for name, instead in (("production", "main"), (f"preview/{revision}", "its database's name")):
        for command in (
            ("database", "snapshot", "create", name),
            ("database", "load", name, str(tmp_path / "dump"), "--replace", "--yes"),
            ("database", "share", name, "main", "--yes"),
            ("timeline", "protect", name),
            ("preview", "create", "HEAD~0", "--from", name),
        ):
            refused = provisioner(repo, *command)
            assert refused.returncode in (1, 3), command
            assert f"git-branch/{name}" in refused.stderr or command[0] == "preview", command
            assert instead in refused.stderr or command[0] == "preview", command
    assert json.loads(ok(repo, "database", "snapshot", "list", "main", "--json")) == []
    assert "of two--production-" in ok(repo, "database", "snapshot", "create")
    assert "of two--production-" in ok(repo, "database", "snapshot", "create", "git-branch/production")
    assert "of two-production-" in ok(repo, "database", "snapshot", "create", "main")
    assert ok(repo, "timeline", "protect") == "git-branch/production is protected\n"
    assert "uses two-production-" in ok(repo, "database", "share", "main", f"git-branch/preview/{revision}", "--yes")
    git(repo, "switch", "--quiet", "main")
    assert ok(repo, "timeline", "protect") == "production is protected\n"
