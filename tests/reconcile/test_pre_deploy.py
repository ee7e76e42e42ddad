"""The pre-deploy command: when it is run, with what, and what becomes of a timeline where it fails, hangs or is cut off."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support import (
    DENO,
    bare,
    commit,
    daemon,
    events,
    git,
    got,
    killed,
    ok,
    outside,
    provisioner,
    put,
    repository,
    rows,
    shop,
    status,
    until,
)
from test_runs import DAEMON, alive

from provisioner.core.clock import now_ms
from provisioner.jobs.follow_log import follow
from provisioner.jobs.pre_deploy import due
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry
from provisioner.system.home import Home


def record(tmp_path: Path) -> Path:
    """Where commands of these tests write a line each time they are run."""
    return outside(tmp_path) / "ran"


def ran(tmp_path: Path) -> list[str]:
    path = record(tmp_path)
    return path.read_text().splitlines() if path.exists() else []


def telling(tmp_path: Path) -> str:
    """A command that says on which timeline and for which revision it was run, and prints it too."""
    return f'echo "$DENO_TIMELINE $DENO_DEPLOY_BUILD_ID" | tee -a {record(tmp_path)}'


def head(repo: Path, name: str = "HEAD") -> str:
    return git(repo, "rev-parse", name).stdout.strip()


def timeline(repo: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok(repo, "timeline", "show", name, "--json"))
    return found


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "app", "set", "--allow-write", outside(tmp_path))
    return repo


def test_it_is_run_once_for_each_revision_of_each_timeline(repo: Path, tmp_path: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    first = head(repo)
    assert ran(tmp_path) == [f"production {first}", f"git-branch/login {first}"]
    ok(repo, "reconcile")
    assert len(ran(tmp_path)) == 2
    commit(repo, "second")
    git(repo, "branch", "cart")
    ok(repo, "reconcile")
    assert set(ran(tmp_path)[2:]) == {f"production {head(repo)}", f"git-branch/cart {head(repo)}"}
    assert {document["status"] for document in status(repo)} == {"connected"}
    assert timeline(repo, "main")["pre_deploy"]["state"] == "succeeded"
    assert f"production {head(repo)}" in ok(repo, "timeline", "log", "main")


def test_it_is_run_in_a_clean_checkout_of_which_nothing_is_left(repo: Path, tmp_path: Path, home: Path) -> None:
    (repo / "untracked").write_text("not pushed")
    (repo / "file").write_text("changed and not pushed")
    before = git(repo, "status", "--porcelain").stdout
    config = (repo / ".git" / "config").read_text()
    ok(
        repo,
        "app",
        "set",
        "--pre-deploy",
        f"cat file; ls -A; pwd; cd ..; ls; exec >{outside(tmp_path)}/out; ls -A $OLDPWD",
    )
    log = ok(repo, "timeline", "log", "main").splitlines()
    assert log[0] == "firstfile"
    assert str(home / "work") in "".join(log)
    assert (outside(tmp_path) / "out").read_text() == "file\n"
    assert list((home / "work").iterdir()) == []
    assert git(repo, "status", "--porcelain").stdout == before
    assert (repo / ".git" / "config").read_text() == config
    assert not (repo / ".git" / "worktrees").exists()


def test_nobody_is_connected_before_it_was_run(repo: Path, tmp_path: Path, home: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    commit(repo, "second")
    (found,) = json.loads(ok(repo, "app", "list", "--json"))
    (home / "inbox" / found["id"]).touch()  # as hooks do
    started = provisioner(repo, "exec", "--", "sh", "-c", f"tail -n 1 {record(tmp_path)}")
    assert started.stdout == f"production {head(repo)}\n"
    assert f"production {head(repo)}" in started.stderr  # what is run before is told


def test_a_failure_is_an_error_of_the_timeline_until_it_is_mended(repo: Path, tmp_path: Path, home: Path) -> None:
    command = f"{telling(tmp_path)}; echo no table >&2; [ -e {outside(tmp_path)}/mended ]"
    refused = provisioner(repo, "app", "set", "--pre-deploy", command)
    assert refused.returncode == 1
    assert "it ended with exit code 1 (no table)" in refused.stderr
    assert {document["status"] for document in status(repo)} == {"error"}
    assert {document["databases"][0]["status"] for document in status(repo)} == {"connected"}
    for words in (("exec", "--", "true"), ("env",)):
        failed = provisioner(repo, *words)
        assert (failed.returncode, failed.stdout) == (3, "")
        assert "provisioner database fix production" in failed.stderr
    times = len(ran(tmp_path))
    assert provisioner(repo, "reconcile").returncode == 1
    assert len(ran(tmp_path)) == times  # not by itself
    shown = ok(repo, "timeline", "show", "main")
    assert "    no table" in shown
    assert str(home / "log" / "runs") in shown
    assert "no table" in ok(repo, "status")
    (outside(tmp_path) / "mended").touch()
    assert "connected" in ok(repo, "timeline", "fix", "main")
    ok(repo, "exec", "--", "true")
    assert timeline(repo, "login")["status"] == "error"
    ok(repo, "database", "fix", rows(repo)[1]["name"])
    assert timeline(repo, "login")["status"] == "connected"


def test_a_new_revision_is_a_new_chance(repo: Path, tmp_path: Path) -> None:
    assert provisioner(repo, "app", "set", "--pre-deploy", "grep -q second file").returncode == 1
    commit(repo, "second")
    provisioner(repo, "reconcile")
    assert timeline(repo, "main")["status"] == "connected"
    assert timeline(repo, "login")["status"] == "error"
    ok(repo, "app", "set", "--no-pre-deploy")
    assert timeline(repo, "login")["status"] == "connected"
    assert timeline(repo, "login")["pre_deploy"] is None


def test_where_it_failed_a_command_that_was_mended_is_run(repo: Path, tmp_path: Path) -> None:
    command = f'{telling(tmp_path)}; [ "$DENO_TIMELINE" = production ]'
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    ok(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    assert {document["status"] for document in status(repo)} == {"connected"}
    assert [line.split()[0] for line in ran(tmp_path)] == ["production", "git-branch/login", "git-branch/login"]


def test_what_it_runs_out_of_time_with_is_ended(repo: Path, tmp_path: Path) -> None:
    (outside(tmp_path) / "daemon.py").write_text(DAEMON)
    here = outside(tmp_path)
    command = f"{sys.executable} {here}/daemon.py {here}/pid; echo $$ >{here}/shell; sleep 60"
    refused = provisioner(repo, "app", "set", "--pre-deploy", command, "--pre-deploy-timeout", "2s")
    assert "it took longer than 2 s" in refused.stderr
    assert not alive(int((outside(tmp_path) / "pid").read_text()))
    assert not alive(int((outside(tmp_path) / "shell").read_text()))


def test_a_file_of_the_revision_is_run_only_where_that_was_asked_for(repo: Path, tmp_path: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy-from", "migrate.sh")  # which no revision has yet
    assert timeline(repo, "main")["status"] == "connected"
    (repo / "migrate.sh").write_text(telling(tmp_path))
    git(repo, "add", "migrate.sh")
    git(repo, "commit", "-q", "-m", "migrate")
    ok(repo, "reconcile")
    assert ran(tmp_path) == [f"production {head(repo)}"]
    for path in ("/etc/passwd", "../x", "."):
        assert provisioner(repo, "app", "set", "--pre-deploy-from", path).returncode == 2


def copies(repo: Path) -> list[str]:
    """The revisions before which the data of production was copied, the newest first."""
    listed = json.loads(ok(repo, "database", "snapshot", "list", "main", "--json"))
    return [item["revision"] for item in listed if item["cause"] == "pre-deploy"]


def deployed(repo: Path, text: str) -> str:
    """A new commit, for which the command has run."""
    commit(repo, text)
    ok(repo, "reconcile")
    assert timeline(repo, "main")["pre_deploy"]["state"] == "succeeded"
    return head(repo)


def test_the_data_is_copied_only_before_a_command_that_changed(repo: Path) -> None:
    git(repo, "branch", "-q", "-D", "login")
    (repo / "migrate.sh").write_text("true")
    (repo / "migrations").mkdir()
    (repo / "migrations" / "1.sql").write_text("create table a (b)")
    git(repo, "add", ".")
    commit(repo, "first")
    ok(repo, "app", "set", "--pre-deploy", "sh ./migrate.sh")
    expected = [head(repo)]
    assert copies(repo) == expected
    for number in range(5):
        deployed(repo, f"another page {number}")
    assert copies(repo) == expected
    (repo / "migrate.sh").write_text("true and more")  # a word of the command names it
    git(repo, "add", ".")
    expected.insert(0, deployed(repo, "other command"))
    (repo / "migrations" / "2.sql").write_text("create table c (d)")
    git(repo, "add", ".")
    deployed(repo, "other migrations, of which nothing was said")
    assert copies(repo) == expected
    ok(repo, "app", "set", "--pre-deploy-inputs", "migrations")
    expected.insert(0, deployed(repo, "said"))
    deployed(repo, "not again")
    assert copies(repo) == expected
    (repo / "migrations" / "3.sql").write_text("create table e (f)")
    git(repo, "add", ".")
    expected.insert(0, deployed(repo, "other migrations"))
    assert copies(repo) == expected
    ok(repo, "app", "set", "--pre-deploy-copies", "never", "--pre-deploy", "sh migrate.sh other")
    deployed(repo, "never")
    assert copies(repo) == expected


def test_a_command_that_failed_is_not_the_one_that_ran_last(repo: Path) -> None:
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "app", "set", "--pre-deploy", "true")
    first = head(repo)
    ok(repo, "app", "set", "--pre-deploy", "! ls | grep -q ^stop")
    (repo / "stop").touch()
    git(repo, "add", ".")
    commit(repo, "bad")
    assert provisioner(repo, "reconcile").returncode == 1
    bad = head(repo)
    assert copies(repo) == [bad, first]
    git(repo, "rm", "-q", "stop")
    good = deployed(repo, "good")
    assert copies(repo) == [good, bad, first]
    deployed(repo, "good again")
    assert copies(repo) == [good, bad, first]


def test_an_old_copy_makes_room_before_a_new_one_is_made(repo: Path, home: Path) -> None:
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "app", "set", "--pre-deploy-copies", "always", "--pre-deploy", "true")
    for number in range(4):
        deployed(repo, f"revision {number}")
    assert len(copies(repo)) == 5
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        last = registry.execute("select max(id) from event").fetchone()[0]
        deployed(repo, "one more")
        done = registry.execute("select action from event where id > ? and action like 'database.snapshot%'", (last,))
        assert [action for (action,) in done] == ["database.snapshot-delete", "database.snapshot"]
    assert len(copies(repo)) == 5


def test_the_data_before_it_is_kept_of_the_last_five(repo: Path, tmp_path: Path) -> None:
    put(rows(repo)[0]["path"], "before")
    ok(repo, "app", "set", "--pre-deploy-copies", "always", "--pre-deploy", "true")
    for number in range(6):
        commit(repo, f"revision {number}")
        ok(repo, "reconcile")
    listed = json.loads(ok(repo, "database", "snapshot", "list", "main", "--json"))
    assert [item["cause"] for item in listed] == ["pre-deploy"] * 5
    put_away = events(tmp_path / "home", "database.snapshot-delete")
    assert put_away == ["superseded"] * 2
    assert listed[0]["revision"] == head(repo)


MIGRATION = """
const kv = await Deno.openKv();
await kv.set(["migrated"], Deno.env.get("DENO_TIMELINE"));
console.log("migrated", Deno.env.get("DENO_TIMELINE"));
kv.close();
"""


def test_a_real_migration_reaches_the_database_of_its_own_timeline(repo: Path) -> None:
    (repo / "migrate.ts").write_text(MIGRATION)
    git(repo, "add", "migrate.ts")
    git(repo, "commit", "-q", "-m", "migrate")
    git(repo, "branch", "-f", "login")
    ok(repo, "app", "set", "--pre-deploy", f"{DENO} run -A --unstable-kv migrate.ts")
    for name, where in (("main", "production"), ("login", "git-branch/login")):
        found = ok(repo, "kv", "get", "--branch", name, '["migrated"]')
        assert where in found
        assert f"migrated {where}" in ok(repo, "timeline", "log", name)


POINTS = ("deploy.intended", "deploy.snapshot", "deploy.checked-out", "run.started", "deploy.ran", "deploy.recorded")


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_instant_it_is_run_again(repo: Path, tmp_path: Path, home: Path, point: str) -> None:
    git(repo, "branch", "-q", "-D", "login")
    put(rows(repo)[0]["path"], "kept")
    ok(repo, "reconcile")
    killed(repo, point, "app", "set", "--pre-deploy", telling(tmp_path))
    ok(repo, "reconcile")
    assert timeline(repo, "main")["pre_deploy"]["state"] == "succeeded"
    expected = {"deploy.ran": 2, "run.started": len(ran(tmp_path))}.get(point, 1)
    assert ran(tmp_path) == [f"production {head(repo)}"] * expected
    assert list((home / "work").iterdir()) == []
    assert list(home.glob("instances/*/new/*/*")) == []
    assert len(events(home, "timeline.pre-deploy-cut-off")) == int(point != "deploy.recorded")
    assert got(rows(repo)[0]["path"]) == "kept"
    ok(repo, "exec", "--", "true")


def test_what_it_left_running_when_all_were_killed_is_ended_before_it_is_run_again(repo: Path, tmp_path: Path) -> None:
    here = outside(tmp_path)
    (here / "daemon.py").write_text(DAEMON)
    command = (
        f"{telling(tmp_path)}; [ -e {here}/pid ] || {{ {sys.executable} {here}/daemon.py {here}/pid;"
        f" while [ ! -s {here}/pid ]; do :; done; kill -9 $PPID; sleep 60; }}"
    )
    refused = provisioner(repo, "app", "set", "--no-sandbox", "--pre-deploy", command)
    assert "its supervisor was killed" in refused.stderr
    assert not alive(int((here / "pid").read_text()))
    ok(repo, "database", "fix", "--all")


@pytest.mark.parametrize("who", ["hook", "daemon"])
def test_what_it_prints_is_told_to_who_pushes(tmp_path: Path, home: Path, who: str) -> None:
    origin = repository(tmp_path / "origin")
    hub = bare(tmp_path / "hub.git", origin)
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    ok(
        hub,
        "app",
        "set",
        "--allow-write",
        outside(tmp_path),
        "--pre-deploy",
        f"{telling(tmp_path)}; sleep 0.3; ! grep -q bad file",
    )
    with daemon(home) if who == "daemon" else nullcontext():
        commit(origin, "good")
        pushed = git(origin, "push", "hub", "main").stderr
        assert f"remote: production {head(origin)}" in pushed
        assert "remote: provisioner: production connected" in pushed
        commit(origin, "bad")
        pushed = git(origin, "push", "hub", "main").stderr
        assert "remote: provisioner: production error" in pushed
        assert "it ended with exit code 1" in pushed
        assert timeline(hub, "main")["status"] == "error"


def test_a_run_that_began_before_anybody_listened_is_told_to_its_end(repo: Path, home: Path) -> None:
    command = 'echo first word; read word < "$FIFO"; echo last word'
    fifo = outside(home.parent) / "fifo"
    os.mkfifo(fifo)
    ok(repo, "var", "set", f"FIFO={fifo}")
    with Registry.open(Home(str(home))) as registry:
        (before,) = registry.apps()
        words = [sys.executable, "-m", "provisioner", "app", "set", "--pre-deploy", command]
        with subprocess.Popen(words, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            fifo.write_text("go\n")  # production's; it waits for somebody to read
            until(lambda: timeline(repo, "main")["pre_deploy"]["state"] == "succeeded")
            until(lambda: [run for item in registry.timelines(before.id) for run in runs(registry, item.id)][1:])
            app = registry.app(before.id)
            assert app is not None
            (login,) = due(registry, app)
            since = now_ms() + 1
            until(lambda: now_ms() > since)
            fifo.write_text("go\n")
            running.wait()
        told: list[str] = []
        follow(registry, app, [login], since, told.append)
    assert told == ["first word", "last word"]


def test_two_pushes_in_a_row_are_two_runs_one_after_the_other(tmp_path: Path, home: Path) -> None:
    origin = repository(tmp_path / "origin")
    hub = bare(tmp_path / "hub.git", origin)
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    ok(
        hub,
        "app",
        "set",
        "--allow-write",
        outside(tmp_path),
        "--pre-deploy",
        f"mkdir {outside(tmp_path)}/one && sleep 0.5 && {telling(tmp_path)}; rmdir {outside(tmp_path)}/one",
    )
    with daemon(home):
        pushes = []
        for text in ("second", "third"):
            commit(origin, text)
            revision = head(origin)
            pushes.append(revision)
            command = ["git", "push", "-q", "hub", f"{revision}:refs/heads/main"]
            with subprocess.Popen(command, cwd=origin, stderr=subprocess.DEVNULL) as pushing:
                until(lambda revision=revision: head(hub, "main") == revision)  # type: ignore[misc]
                if text == "second":
                    until(lambda: (outside(tmp_path) / "one").exists())
                pushing.wait()
        until(lambda: timeline(hub, "main")["pre_deploy"]["state"] == "succeeded")
    assert ran(tmp_path)[-1] == f"production {pushes[-1]}"
    assert len(ran(tmp_path)) == len(set(ran(tmp_path)))


def test_a_daemon_that_ends_ends_the_command_and_the_next_one_runs_it_again(
    repo: Path, tmp_path: Path, home: Path
) -> None:
    (outside(tmp_path) / "go").touch()
    command = f"{telling(tmp_path)}; [ -e {outside(tmp_path)}/go ] || {{ echo $$ >{outside(tmp_path)}/pid; sleep 60; }}"
    ok(repo, "app", "set", "--pre-deploy", command)
    (outside(tmp_path) / "go").unlink()
    with daemon(home) as running:
        commit(repo, "second")
        until(lambda: (outside(tmp_path) / "pid").exists() and (outside(tmp_path) / "pid").read_text())
        assert timeline(repo, "main")["pre_deploy"]["state"] == "running"
        assert timeline(repo, "main")["status"] == "provisioning"
        git(repo, "branch", "other")  # nobody waits for it
        running.stop()
    assert not alive(int((outside(tmp_path) / "pid").read_text()))
    (outside(tmp_path) / "go").touch()
    with daemon(home):
        until(lambda: timeline(repo, "main")["pre_deploy"]["state"] == "succeeded")
    assert ran(tmp_path).count(f"production {head(repo)}") == 2


def test_a_preview_is_deployed_too(repo: Path, tmp_path: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    ok(repo, "preview", "create", "HEAD")
    assert f"preview/{head(repo)} {head(repo)}" in ran(tmp_path)
    ok(repo, "exec", "--timeline", f"preview/{head(repo)}", "--", "true")


def test_a_renamed_branch_is_not_deployed_again(repo: Path, tmp_path: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    times = len(ran(tmp_path))
    git(repo, "branch", "-m", "login", "signin")
    ok(repo, "reconcile")
    assert timeline(repo, "signin")["pre_deploy"]["state"] == "succeeded"
    assert len(ran(tmp_path)) == times


def test_an_env_file_is_not_waited_for(repo: Path, tmp_path: Path) -> None:
    ok(repo, "env", "--write", ".env.local")
    ok(
        repo,
        "app",
        "set",
        "--pre-deploy",
        f"{telling(tmp_path)}; grep -q good file || [ ! -e {outside(tmp_path)}/strict ]",
    )
    (outside(tmp_path) / "strict").touch()
    commit(repo, "bad")
    assert provisioner(repo, "reconcile").returncode == 1
    ok(repo, "hooks", "install")
    git(repo, "switch", "-q", "login")
    git(repo, "switch", "-q", "main")
    assert "DENO_KV_DEFAULT_PATH" not in (repo / ".env.local").read_text()


def test_others_do_not_wait_for_a_command_that_takes_long(repo: Path, tmp_path: Path, home: Path) -> None:
    here = outside(tmp_path)
    ok(repo, "app", "set", "--pre-deploy", "true")
    command = f"[ $DENO_TIMELINE != production ] || {{ touch {here}/begun; while [ ! -e {here}/go ]; do :; done; }}"
    ok(repo, "app", "set", "--pre-deploy", command)
    with daemon(home):
        commit(repo, "second")
        until(lambda: (here / "begun").exists())
        git(repo, "branch", "cart")
        until(lambda: any(row["branch"] == "cart" and row["status"] == "connected" for row in status(repo)))
        ok(repo, "exec", "--branch", "cart", "--", "true")
        ok(repo, "database", "fork", "login", "cart", "--yes")
        assert timeline(repo, "main")["status"] == "provisioning"
        (here / "go").touch()
        until(lambda: timeline(repo, "main")["status"] == "connected")
    assert list((home / "work").iterdir()) == []


def test_what_keeps_it_from_being_tried_is_said(repo: Path, tmp_path: Path, home: Path) -> None:
    (home / "instances/default/snapshots").write_text("where the data before it would be kept")
    refused = provisioner(repo, "app", "set", "--pre-deploy", telling(tmp_path))
    assert (refused.returncode, "snapshot" in refused.stderr, ran(tmp_path)) == (1, True, [])
    assert "its pre-deploy command is waiting: cannot keep a snapshot" in ok(repo, "status")
    (home / "instances/default/snapshots").unlink()
    ok(repo, "database", "fix", "--all")
    assert len(ran(tmp_path)) == 2


def test_what_failed_is_told_without_the_secrets_that_it_printed(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop")
    ok(repo, "var", "set", "--secret", "PASS=s3cret-value", "--context", "production")
    failed = provisioner(repo, "app", "set", "--pre-deploy", 'echo "cannot log in with $PASS"; exit 3')
    assert "cannot log in with •••" in failed.stderr
    told = [*events(home, "timeline.deploy-failed"), json.dumps(status(repo)), failed.stderr]
    assert not any("s3cret" in text for text in told)
    with Registry.open(Home(str(home))) as registry:
        assert not any("s3cret" in event[-1] for event in registry.activity())
