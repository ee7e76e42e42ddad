"""Operators' hooks: run for each event, in order for each timeline, whatever is killed, and never in the way of databases."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import commit, daemon, git, ok, points, provisioner, shop, status, statuses, until

SEEN = """#!/bin/sh
# one line for each call: the event, and whether the database of its timeline is still there
event=$(cat)
there=no; [ -f "$DENO_KV_DEFAULT_PATH" ] && there=yes
printf '{"event": %s, "there": "%s", "timeline": "%s", "said": "%s", "cwd": "%s"}\\n' \
  "$event" "$there" "$DENO_TIMELINE" "$PROVISIONER_EVENT" "$(pwd)" >> "$0.calls"
[ ! -e "$0.fail" ]
"""


class Hook:
    """A script that notes its calls, and fails while there is a file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hook"
        self.path.write_text(SEEN)
        self.path.chmod(0o755)
        self.fail = directory / "hook.fail"

    def calls(self, timeline: str = "git-branch/login") -> list[dict[str, Any]]:
        path = Path(f"{self.path}.calls")
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in found if call["timeline"] == timeline]

    def types(self, timeline: str = "git-branch/login") -> list[str]:
        return [call["event"]["type"] for call in self.calls(timeline)]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login", "cart")


@pytest.fixture
def hook(repo: Path, tmp_path: Path) -> Hook:
    made = Hook(tmp_path)
    ok(repo, "app", "set", "--on-connected", str(made.path), "--on-gone", str(made.path))
    return made


def log(repo: Path, timeline: str = "git-branch/login") -> list[str]:
    """The types of a timeline's events."""
    printed = ok(repo, "events", "--json", "--timeline", timeline, "--limit", "1000")
    return [json.loads(line)["type"] for line in printed.splitlines()]


def test_a_hook_gets_the_event_and_the_timelines_environment(repo: Path, home: Path, hook: Hook) -> None:
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    with daemon(home):
        until(hook.calls)
    (call,) = hook.calls()
    head = git(repo, "rev-parse", "login").stdout.strip()
    event = call["event"]
    assert (event["type"], event["branch"], event["revision"]) == ("timeline.connected", "login", head)
    assert (call["said"], call["there"], call["cwd"]) == ("timeline.connected", "yes", str(repo))
    assert event in [json.loads(line) for line in ok(repo, "events", "--json", "--branch", "login").splitlines()]
    assert "timeline.on-connected" in log(repo)
    assert event["url"] is None


def test_an_event_has_the_url_of_an_app_that_provisioner_runs(repo: Path, hook: Hook) -> None:
    ok(repo, "app", "run", "--command", "true")
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert [call["event"]["url"] for call in hook.calls()] == ["http://login.shop.localhost:4580"]
    printed = ok(repo, "events", "--json", "--timeline", "git-branch/login").splitlines()
    assert {event["url"] for event in map(json.loads, printed) if event["type"] == "timeline.gone"} == {
        "http://login.shop.localhost:4580"
    }


def test_databases_are_archived_after_the_hook_for_a_branch_that_is_gone(repo: Path, home: Path, hook: Hook) -> None:
    git(repo, "branch", "-D", "login")
    with daemon(home):
        until(lambda: statuses(repo)["git-branch/login"] == "archived")
    assert hook.types() == ["timeline.gone"]
    assert hook.calls()[0]["there"] == "yes"
    told = log(repo)
    assert told.index("timeline.gone") < told.index("timeline.on-gone") < told.index("database.archive")


def test_reconcile_runs_hooks_where_no_daemon_is(repo: Path, hook: Hook) -> None:
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert hook.types() == ["timeline.gone"]
    assert statuses(repo)["git-branch/login"] == "archived"


def test_a_hook_that_fails_is_tried_again_and_blocks_no_database(repo: Path, home: Path, hook: Hook) -> None:
    hook.fail.touch()
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    with daemon(home) as running:
        until(lambda: len(hook.calls()) > 1)  # tried again
        assert {row["status"] for row in status(repo)} == {"connected"}
        git(repo, "branch", "new")
        until(lambda: statuses(repo).get("git-branch/new") == "connected")
        assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 0
        assert log(repo).count("timeline.on-connected-failed") == 1
        hook.fail.unlink()
        until(lambda: "timeline.on-connected" in log(repo))
        calls = len(hook.calls())
        ok(repo, "reconcile")
        assert len(hook.calls()) == calls
        assert "the hook on-connected failed" in running.log.read_text()


def test_a_later_event_ends_the_attempts_for_an_earlier_one(repo: Path, home: Path, hook: Hook) -> None:
    ok(repo, "app", "set", "--on-connected", f"cat >> {hook.path}.tried; exit 1")
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    with daemon(home):
        until(lambda: "timeline.on-connected-failed" in log(repo))
        git(repo, "switch", "-q", "main")
        git(repo, "branch", "-D", "login")
        until(lambda: statuses(repo)["git-branch/login"] == "archived")
    assert hook.types() == ["timeline.gone"]


def test_hooks_of_a_timeline_run_in_the_order_of_its_events(repo: Path, home: Path, hook: Hook) -> None:
    git(repo, "switch", "-q", "login")
    with daemon(home):
        revisions = []
        for number in range(4):
            commit(repo, f"number {number}")
            revisions.append(git(repo, "rev-parse", "HEAD").stdout.strip())
        until(lambda: [call["event"]["revision"] for call in hook.calls()][-1:] == revisions[-1:])
    called = [call["event"] for call in hook.calls()]
    assert [event["seq"] for event in called] == sorted({event["seq"] for event in called})
    told = [json.loads(line) for line in ok(repo, "events", "--json", "--branch", "login").splitlines()]
    connected = [event for event in told if event["type"] == "timeline.connected"]
    assert called == connected[1:]  # the first was before there was a hook


@pytest.mark.parametrize("point", points("hook"))
def test_killed_anywhere_a_hook_is_run_and_nothing_is_archived_before(repo: Path, hook: Hook, point: str) -> None:
    git(repo, "branch", "-D", "login")
    killed = provisioner(repo, "reconcile", add={"PROVISIONER_FAULT": point})
    assert killed.returncode == -signal.SIGKILL, killed
    assert statuses(repo)["git-branch/login"] == "connected"
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "archived"
    assert set(hook.types()) == {"timeline.gone"}
    assert 1 <= len(hook.calls()) <= 2
    assert all(call["there"] == "yes" for call in hook.calls())


def test_a_daemon_that_is_killed_leaves_no_process_of_a_hook(repo: Path, home: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    ok(repo, "app", "set", "--on-gone", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000")
    git(repo, "branch", "-D", "login")
    with daemon(home) as running:
        until(pid.exists)
        until(lambda: Path(f"/proc/{pid.read_text().strip()}").exists())
        running.process.kill()
        running.process.wait(60)
        until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert statuses(repo)["git-branch/login"] == "connected"


def test_the_wait_for_a_hook_has_an_end(repo: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner.core.clock import now_ms
    from provisioner.reconcile import gone_hooks
    from provisioner.reconcile.controller import reconcile
    from provisioner.registry.store import Registry
    from provisioner.system.home import Home

    git(repo, "branch", "-D", "login")
    with Registry.open(Home(os.environ["PROVISIONER_HOME"])) as registry:
        (app,) = registry.apps()
        now = now_ms()
        outcome = reconcile(registry, app, now, "test")
        assert statuses(repo)["git-branch/login"] == "connected"
        assert outcome.next_at is not None
        assert now < outcome.next_at <= now_ms() + gone_hooks.LONGEST_WAIT_MS
        reconcile(registry, app, outcome.next_at + 1, "test")
    assert statuses(repo)["git-branch/login"] == "archived"
    ok(repo, "reconcile")
    (call,) = hook.calls()  # later than it should be, without its database
    assert (call["event"]["type"], call["there"]) == ("timeline.gone", "no")


def test_expiry_and_a_deleted_preview_are_gone_too(repo: Path, hook: Hook) -> None:
    head = git(repo, "rev-parse", "login").stdout.strip()
    ok(repo, "preview", "create", head)
    ok(repo, "preview", "delete", head, "--yes")
    ok(repo, "reconcile")
    name = f"preview/{head}"
    assert hook.types(name) == ["timeline.connected", "timeline.gone"]
    assert [call["there"] for call in hook.calls(name)] == ["yes", "yes"]
    ok(repo, "timeline", "expire", "login", "--after", "1s")
    until(lambda: provisioner(repo, "reconcile").returncode == 0 and statuses(repo)["git-branch/login"] == "archived")
    assert hook.types() == ["timeline.gone"]
    assert hook.calls()[0]["there"] == "yes"


def test_hooks_are_shown_changed_and_removed(repo: Path, hook: Hook) -> None:
    shown = json.loads(ok(repo, "app", "show", "--json"))
    assert (shown["on_connected"], shown["on_healthy"], shown["on_gone"]) == (str(hook.path), None, str(hook.path))
    ok(repo, "app", "set", "--no-on-gone", "--on-healthy", "true")
    shown = json.loads(ok(repo, "app", "show", "--json"))
    assert (shown["on_connected"], shown["on_healthy"], shown["on_gone"]) == (str(hook.path), "true", None)
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "archived"
    assert hook.types() == []
    for words in (("--on-gone", "true", "--no-on-gone"), ("--on-gone", " ")):
        assert provisioner(repo, "app", "set", *words).returncode == 2


def test_what_a_hook_prints_is_kept_without_secrets(repo: Path, home: Path) -> None:
    ok(repo, "var", "set", "API_KEY=a-very-secret-value", "--secret")
    ok(repo, "app", "set", "--on-gone", "echo key is $API_KEY; exit 3")
    git(repo, "branch", "-D", "login")
    failed = provisioner(repo, "reconcile")
    assert failed.returncode == 1
    assert "exit code 3" in failed.stderr
    (log_file,) = home.glob("log/runs/*.log")
    assert "key is" in log_file.read_text()
    assert "a-very-secret-value" not in log_file.read_text() + failed.stderr
