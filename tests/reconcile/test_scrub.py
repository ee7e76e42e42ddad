"""Scrubs: nobody is ever connected to a copy that has not passed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from kv_files import integrity
from support import (
    DENO,
    daemon,
    database_of,
    events,
    git,
    got,
    killed,
    ok,
    outside,
    provisioner,
    put,
    rows,
    shop,
    statuses,
    until,
)
from test_runs import DAEMON, alive

SQL = "update kv set v = cast('scrubbed' as blob) where k = cast('mark' as blob);"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Production holds what is nobody's business."""
    repo = shop(tmp_path / "shop")
    put(rows(repo)[0]["path"], "personal")
    ok(repo, "app", "set", "--allow-write", outside(tmp_path))
    return repo


def sql(tmp_path: Path, text: str = SQL) -> str:
    file = tmp_path / "scrub.sql"
    file.write_text(text)
    return str(file)


def connected_file(repo: Path, branch: str) -> Path | None:
    """What a program on the branch would open; None where it is not started."""
    done = provisioner(repo, "exec", "--branch", branch, "--", "printenv", "DENO_KV_DEFAULT_PATH")
    assert done.returncode in (0, 3)
    return Path(done.stdout.strip()) if done.stdout else None


def built(home: Path) -> list[Path]:
    return list(home.glob("instances/*/new/*/*"))


def test_a_new_branch_begins_with_a_scrubbed_copy(repo: Path, tmp_path: Path, home: Path) -> None:
    said = ok(repo, "assign", "default", "--new-branch", "fork:production", "--scrub", sql(tmp_path))
    assert f"scrub command, within 600 s: {tmp_path}/scrub.sql" in said
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    login = database_of(repo, "git-branch/login")
    assert (login["status"], got(login["path"]), login["forked_from"]) == (
        "connected",
        "scrubbed",
        rows(repo)[0]["name"],
    )
    assert got(rows(repo)[0]["path"]) == "personal"
    assert integrity(Path(login["path"])) == "ok"
    assert {path.name for path in Path(login["path"]).parent.iterdir()} == {"owner.json", "kv.sqlite3"}
    assert built(home) == []
    git(repo, "branch", "cart")
    path = connected_file(repo, "cart")  # exec waits for it
    assert path is not None
    assert got(path) == "scrubbed"


def test_a_scrub_is_a_command_a_file_of_sql_or_one_of_python(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "scrub.py").write_text(
        "import os, sqlite3\n"
        "with sqlite3.connect(os.environ['DENO_KV_DEFAULT_PATH']) as c: c.execute('delete from kv')\n"
        "assert os.environ['DENO_TIMELINE'] == 'git-branch/python', os.environ\n"
    )
    (outside(tmp_path) / "scrub.ts").write_text(
        'const kv = await Deno.openKv(); await kv.set(["by"], "deno"); kv.close();'
    )
    git(repo, "branch", "python")
    git(repo, "branch", "typescript")
    ok(repo, "reconcile")
    ok(repo, "database", "fork", "main", "python", "--yes", "--scrub", str(tmp_path / "scrub.py"))
    assert got(database_of(repo, "git-branch/python")["path"]) == ""
    command = f"{DENO} run -A --unstable-kv {outside(tmp_path)}/scrub.ts"
    ok(repo, "database", "reset", "typescript", "--from", "production", "--yes", "--scrub", command)
    assert "deno" in ok(repo, "kv", "get", "--branch", "typescript", '["by"]')
    assert got(database_of(repo, "git-branch/typescript")["path"]) == "personal"
    assert provisioner(repo, "kv", "get", "--branch", "main", '["by"]').stdout.strip() in ("", "null")


FAILURES = {
    "fails": ("echo no such table >&2; exit 1", "it ended with exit code 1 (no such table)"),
    "hangs": ("sleep 60", "it took longer than 1 s"),
    "is killed": ("kill -9 $$", "it was killed by signal 9"),
    "kills its supervisor": ("kill -9 $PPID; sleep 60", "its supervisor was killed"),
    "ruins the file": ('echo nonsense >"$DENO_KV_DEFAULT_PATH"', "is not an SQLite database"),
    "deletes the file": ('rm "$DENO_KV_DEFAULT_PATH"', "cannot be read"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_nobody_is_connected_to_a_copy_that_did_not_pass(repo: Path, tmp_path: Path, home: Path, how: str) -> None:
    command, why = FAILURES[how]
    if how == "kills its supervisor":  # which a sandbox refuses
        ok(repo, "app", "set", "--no-sandbox")
    rule = ("--new-branch", "fork:production", "--scrub", f"[ -e {outside(tmp_path)}/mended ] || {{ {command}; }}")
    ok(repo, "assign", "default", *rule, "--scrub-timeout", "1s")
    git(repo, "branch", "login")
    assert provisioner(repo, "reconcile").returncode == 1
    login = database_of(repo, "git-branch/login")
    assert (login["status"], login["path"]) == ("error", None)
    assert why in login["error"]
    assert "its output is in" in login["error"]
    assert connected_file(repo, "login") is None
    assert built(home) == []
    assert not list(home.glob(f"instances/*/live/{login['id']}"))
    assert got(rows(repo)[0]["path"]) == "personal"
    (outside(tmp_path) / "mended").touch()
    ok(repo, "database", "fix", login["name"])
    assert connected_file(repo, "login") is not None


def test_what_a_scrub_leaves_behind_is_ended_before_anybody_is_connected(repo: Path, tmp_path: Path) -> None:
    here = outside(tmp_path)
    (here / "daemon.py").write_text(DAEMON)
    command = f"{sys.executable} {here}/daemon.py {here}/pid; while [ ! -s {here}/pid ]; do :; done"
    ok(repo, "assign", "default", "--new-branch", "fork:production", "--scrub", command)
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    assert not alive(int((here / "pid").read_text()))
    assert connected_file(repo, "login") is not None


def test_by_hand_a_copy_of_production_has_to_pass_too(repo: Path, tmp_path: Path, home: Path) -> None:
    git(repo, "branch", "login")
    git(repo, "branch", "cart")
    ok(repo, "assign", "default", "--scrub", sql(tmp_path))
    before = database_of(repo, "git-branch/login")
    put(before["path"], "own")
    ok(repo, "database", "fork", "main", "cart", "--yes")
    assert got(database_of(repo, "git-branch/cart")["path"]) == "scrubbed"
    refused = provisioner(repo, "database", "fork", "main", "login", "--yes", "--scrub", "exit 7")
    assert refused.returncode == 1
    assert "exit code 7" in refused.stderr
    after = database_of(repo, "git-branch/login")
    assert (after["status"], after["path"], got(after["path"])) == ("connected", before["path"], "own")
    assert built(home) == []
    ok(repo, "database", "fork", "login", "cart", "--yes")  # not production's: as it is
    assert got(database_of(repo, "git-branch/cart")["path"]) == "own"
    ok(repo, "database", "fork", "main", "login", "--yes", "--no-scrub")
    assert got(database_of(repo, "git-branch/login")["path"]) == "personal"


@pytest.mark.parametrize(
    "point", ["scrub.intended", "run.started", "scrub.ran", "scrub.sealed", "replace.moved", "provision.recorded"]
)
def test_killed_at_any_instant_it_is_scrubbed_from_the_beginning(
    repo: Path, tmp_path: Path, home: Path, point: str
) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:production", "--scrub", sql(tmp_path))
    git(repo, "branch", "login")
    killed(repo, point, "reconcile")
    ok(repo, "reconcile")
    login = database_of(repo, "git-branch/login")
    assert (login["status"], got(login["path"])) == ("connected", "scrubbed")
    assert built(home) == []
    assert list((home / "work").iterdir()) == []
    assert len(events(home, "timeline.scrub-cut-off")) == int(
        point in ("scrub.intended", "run.started", "scrub.ran", "scrub.sealed")
    )


@pytest.mark.parametrize("point", ["scrub.intended", "run.started", "scrub.ran", "scrub.sealed"])
def test_killed_by_hand_the_database_is_what_it_was(repo: Path, tmp_path: Path, home: Path, point: str) -> None:
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    before = database_of(repo, "git-branch/login")
    put(before["path"], "own")
    killed(repo, point, "database", "fork", "main", "login", "--yes", "--scrub", sql(tmp_path))
    assert connected_file(repo, "login") == Path(before["path"])
    ok(repo, "reconcile")
    assert got(database_of(repo, "git-branch/login")["path"]) == "own"
    assert built(home) == []


def test_a_branch_that_goes_while_it_is_scrubbed_leaves_nothing(repo: Path, tmp_path: Path, home: Path) -> None:
    command = f"touch {outside(tmp_path)}/begun; while [ ! -e {outside(tmp_path)}/go ]; do sleep 0.01; done"
    ok(repo, "assign", "default", "--new-branch", "fork:production", "--scrub", command)
    with daemon(home):
        git(repo, "branch", "login")
        until(lambda: (outside(tmp_path) / "begun").exists())
        assert statuses(repo)["git-branch/login"] == "provisioning"
        git(repo, "branch", "other")  # others do not wait for it
        git(repo, "branch", "-q", "-D", "login")
        until(lambda: statuses(repo).get("git-branch/login") == "archived")
        (outside(tmp_path) / "go").touch()
        until(lambda: statuses(repo).get("git-branch/other") == "connected")
        until(lambda: built(home) == [])
        git(repo, "branch", "login")
        until(lambda: statuses(repo).get("git-branch/login") == "connected")


def test_the_daemon_tries_again_by_itself(repo: Path, tmp_path: Path, home: Path) -> None:
    ok(repo, "assign", "default", "--new-branch", "fork:production", "--scrub", f"[ -e {outside(tmp_path)}/mended ]")
    with daemon(home):
        git(repo, "branch", "login")
        until(lambda: statuses(repo).get("git-branch/login") == "error")
        (outside(tmp_path) / "mended").touch()
        until(lambda: statuses(repo).get("git-branch/login") == "connected")
    history = json.loads(ok(repo, "database", "show", database_of(repo, "git-branch/login")["name"], "--json"))[
        "history"
    ]
    assert {event["cause"] for event in history} >= {"scrub"}


def test_a_preview_of_production_is_scrubbed(repo: Path, tmp_path: Path) -> None:
    ok(repo, "assign", "default", "--scrub", sql(tmp_path))
    ok(repo, "preview", "create", "HEAD", "--from", "production")
    (preview,) = [row for row in rows(repo) if row["timeline"].startswith("preview/")]
    assert (preview["status"], got(preview["path"])) == ("connected", "scrubbed")
    assert json.loads(ok(repo, "app", "show", "--json"))["scrub"] == {"default": str(tmp_path / "scrub.sql")}


def test_a_file_that_is_not_there_is_no_scrub(repo: Path) -> None:
    refused = provisioner(repo, "assign", "default", "--scrub", "./missing.sql")
    assert (refused.returncode, "no file ./missing.sql" in refused.stderr) == (2, True), refused.stderr
