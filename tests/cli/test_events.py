"""`provisioner events`: what happened, in order, each once, also to those who follow while others write."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import add_branches, commit, git, ok, provisioner, repository, run, shop, until

from provisioner.core.clock import now_ms
from provisioner.operations.events import follow
from provisioner.registry import events as log
from provisioner.registry.store import Registry
from provisioner.system.home import Home

pytestmark = pytest.mark.slow

KEYS = (
    *("seq", "at", "type", "app", "timeline", "branch", "revision", "instance", "database"),
    *("actor", "cause", "url", "error", "detail"),
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login", options=("--grace", "1h"))


def told(cwd: Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ok(cwd, "events", "--json", *words).splitlines()]


def types(found: list[dict[str, Any]], timeline: str = "") -> list[str]:
    return [event["type"] for event in found if not timeline or event["timeline"] == timeline]


class Follower:
    """`provisioner events --follow --json` in a process of its own."""

    def __init__(self, cwd: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            ["provisioner", "events", "--follow", "--json", *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.found: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.found.append(json.loads(line))

    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.found]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._thread.join(60)
        return code


@contextmanager
def following(cwd: Path, *words: str) -> Iterator[Follower]:
    follower = Follower(cwd, *words)
    try:
        yield follower
    finally:
        follower.process.kill()
        follower.process.wait(60)
        follower._thread.join(60)
        for stream in (follower.process.stdout, follower.process.stderr):
            assert stream is not None
            stream.close()


def test_each_event_has_the_keys_of_the_documentation(repo: Path) -> None:
    found = told(repo, "--timeline", "git-branch/login")
    assert {tuple(event) for event in found} == {KEYS}
    assert types(found)[0] == "timeline.open"
    (connected,) = [event for event in found if event["type"] == "timeline.connected"]
    assert (connected["app"], connected["branch"], connected["error"]) == ("shop", "login", None)
    assert connected["revision"] == git(repo, "rev-parse", "login").stdout.strip()
    made = next(event for event in found if event["type"] == "database.connect")
    assert made["instance"] == "default"
    assert made["database"]["name"].startswith("shop--login-")
    assert made["seq"] < connected["seq"]
    production = told(repo, "--timeline", "production")
    assert {event["branch"] for event in production} == {"main"}


def test_a_timeline_is_connected_once_and_again_when_programs_have_to_be_restarted(repo: Path) -> None:
    assert types(told(repo, "--branch", "login")).count("timeline.connected") == 1
    ok(repo, "reconcile")
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    ok(repo, "reconcile")
    ok(repo, "reconcile")
    assert types(told(repo, "--branch", "login")).count("timeline.connected") == 2
    ok(repo, "database", "reset", "login", "--yes")
    assert types(told(repo, "--branch", "login"))[-2:] == ["database.reset", "timeline.connected"]
    assert types(told(repo, "--timeline", "production")).count("timeline.connected") == 1


def test_a_branch_that_is_gone_and_back_is_told_at_once_in_its_grace_period(repo: Path) -> None:
    head = git(repo, "rev-parse", "login").stdout.strip()
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    (gone,) = [event for event in told(repo, "--timeline", "git-branch/login") if event["type"] == "timeline.gone"]
    assert (gone["branch"], gone["revision"]) == ("login", head)
    (shown,) = json.loads(ok(repo, "status", "--timeline", "git-branch/login", "--json"))
    assert (shown["gone"], shown["status"]) == (True, "connected")
    git(repo, "branch", "login", head)
    ok(repo, "reconcile")
    after = types([event for event in told(repo, "--branch", "login") if event["seq"] > gone["seq"]])
    assert "timeline.back" in after
    assert after[-1] == "timeline.connected"
    assert {item["gone"] for item in json.loads(ok(repo, "status", "--json"))} == {False}


def test_a_timeline_is_connected_when_its_pre_deploy_command_has_succeeded(repo: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", "test -e file", "--no-sandbox")
    before = told(repo)[-1]["seq"]
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    provisioner(repo, "reconcile")
    after = types(told(repo, "--branch", "login", "--cursor", str(before)))
    assert after[-2:] == ["timeline.deploy", "timeline.connected"]
    git(repo, "rm", "-q", "file")
    git(repo, "commit", "-q", "-m", "third")
    provisioner(repo, "reconcile")
    last = told(repo, "--branch", "login")[-1]
    assert last["type"] == "timeline.deploy-failed"
    assert "exit code 1" in last["error"]
    assert last["detail"] is None


def test_a_page_ends_with_the_cursor_of_the_next(repo: Path) -> None:
    everything = told(repo, "--limit", "1000")
    found: list[dict[str, Any]] = []
    cursor = "0"
    while cursor:
        page = provisioner(repo, "events", "--json", "--limit", "3", "--cursor", cursor)
        assert page.returncode == 0, page.stderr
        found += [json.loads(line) for line in page.stdout.splitlines()]
        cursor = str(json.loads(page.stderr)["cursor"]) if page.stderr else ""
    assert found == everything
    assert told(repo, "--limit", "2") == everything[-2:]
    assert told(repo, "--type", "timeline.connected", "--type", "app.add") == [
        event for event in everything if event["type"] in ("timeline.connected", "app.add")
    ]


def test_since_takes_a_duration_ago_and_a_time(repo: Path) -> None:
    everything = told(repo)
    assert told(repo, "--since", "1h") == everything
    assert told(repo, "--since", everything[-1]["at"]) == [
        event for event in everything if event["at"] == everything[-1]["at"]
    ]
    assert told(repo, "--since", "2999-01-01T00:00:00Z") == []
    refused = provisioner(repo, "events", "--since", "yesterday-ish")
    assert refused.returncode == 2
    assert "2h" in refused.stderr


def test_a_cursor_from_the_future_is_refused(repo: Path) -> None:
    refused = provisioner(repo, "events", "--cursor", "100000")
    assert refused.returncode == 3, refused
    assert "100000" in refused.stderr


def test_text_is_a_line_an_event(repo: Path) -> None:
    lines = ok(repo, "events", "--branch", "login").splitlines()
    assert lines[0].split() == ["AT", "TYPE", "APP", "TIMELINE", "DATABASE", "DETAIL"]
    assert len(lines) == 1 + len(told(repo, "--branch", "login"))
    assert "timeline.connected" in lines[-1]
    assert "git-branch/login" in lines[-1]


def test_another_apps_events_are_shown_outside_a_repository_and_with_all(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    ok(other, "init", "--no-hooks", "--name", "other")
    assert {event["app"] for event in told(repo)} == {"shop"}
    everything = told(tmp_path, "--limit", "1000")
    assert {event["app"] for event in everything} == {"shop", "other", None}
    assert told(repo, "--all", "--limit", "1000") == everything
    assert {event["app"] for event in told(tmp_path, "--app", "other")} == {"other"}


WRITER = """
import sys
from provisioner.core.clock import now_ms
from provisioner.registry.store import Registry
from provisioner.system.home import Home

with Registry.open(Home(sys.argv[1])) as registry:
    for number in range(int(sys.argv[3])):
        with registry.change(synced=number % 2 == 0):
            for part in range(1 + number % 3):
                registry.record(now_ms(), "test.written", sys.argv[2], detail=f"{number}.{part}")
"""


def test_followers_miss_and_repeat_nothing_that_several_processes_write(repo: Path, home: Path) -> None:
    writers, rounds = 4, 50
    with (
        following(repo, "--all", "--cursor", "0") as follower,
        following(repo, "--type", "test.written", "--all", "--cursor", "0") as few,
    ):
        until(lambda: follower.found)
        running = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(home), f"writer-{number}", str(rounds)])
            for number in range(writers)
        ]
        assert [process.wait(240) for process in running] == [0] * writers
        with Registry.open(Home(str(home))) as registry:
            last = int(str(registry.rows("select max(id) from event")[0][0]))
        until(lambda: last in follower.seqs())
        assert follower.seqs() == list(range(1, last + 1))
        for number in range(writers):
            mine = [event["detail"] for event in follower.found if event["cause"] == f"writer-{number}"]
            assert mine == [f"{each}.{part}" for each in range(rounds) for part in range(1 + each % 3)]
        assert follower.interrupt() == 0
        until(lambda: few.seqs()[-1:] == [last])
        assert few.found == [event for event in follower.found if event["type"] == "test.written"]


def test_a_follower_goes_on_where_it_was_killed(repo: Path) -> None:
    with following(repo, "--cursor", "0") as first:
        until(lambda: first.found)
        first.process.kill()
        first.process.wait(60)
        seen = first.seqs()[-1]
    add_branches(repo, "cart", "search")
    ok(repo, "reconcile")
    everything = told(repo, "--limit", "1000")
    with following(repo, "--cursor", str(seen)) as second:
        until(lambda: second.seqs()[-1:] == [everything[-1]["seq"]])
        assert second.found == [event for event in everything if event["seq"] > seen]


def test_a_follower_ends_with_its_reader(repo: Path) -> None:
    done = run(repo, "sh", "-c", "provisioner events --follow --json --cursor 0 | head -n 1")
    assert json.loads(done.stdout)["seq"] >= 1  # the shell waits for a follower that does not end


def test_waiting_reads_a_counter_and_no_event_again(repo: Path, home: Path) -> None:
    asked: list[str] = []
    pauses = itertools.count(1)
    with Registry.open(Home(str(home))) as registry, Registry.open(Home(str(home))) as writer:
        registry._db.set_trace_callback(asked.append)
        last = log.last_seq(writer)

        def pause() -> None:
            asked.append("pause")
            if next(pauses) == 5:
                writer.record(now_ms(), "test.written", "test")

        stream = follow(registry, 0, log.EventFilter(), pause)
        before = [event.seq for event in next(stream)]
        asked.clear()
        (written,) = next(stream)
        assert (before, written.seq) == (list(range(1, last + 1)), last + 1)
        assert asked[:10] == ["pause", "pragma data_version"] * 5
        assert asked[10:] == [
            "select ifnull(max(id), 0) from event",
            "select ifnull(max(id), 0) from event",
            f"select {log._EVENT} from event where id > {last} and id <= {last + 1} order by id limit 500",
        ]


def test_a_preview_is_connected_and_gone(repo: Path) -> None:
    head = git(repo, "rev-parse", "login").stdout.strip()
    ok(repo, "preview", "create", head)
    ok(repo, "preview", "delete", head, "--yes")
    name = f"preview/{head}"
    found = told(repo, "--limit", "1000")
    assert types(found, name).count("timeline.connected") == 1
    assert "timeline.gone" in types(found, name)
    assert {event["branch"] for event in found if event["timeline"] == name} == {None}
