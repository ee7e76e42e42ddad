"""Threads that live as long as the daemon or the server: none ends by a failure, and one that is gone is named."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import bare, branches, connected, daemon, free_port, git, ok, provisioner, repository, until

from provisioner.daemon import quorum_monitor
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread, states

# A native library ends the thread: Python believes in it for ever.
ENDED = """
import ctypes, os, sys
from {module} import {owner} as owner
trigger = sys.argv.pop(1)
original = owner.{method}

def ends(*arguments):
    if os.path.exists(trigger):
        ctypes.CDLL(None).pthread_exit(None)
    return original(*arguments)

owner.{method} = ends
from provisioner.__main__ import main
main()
"""

# A fault of ours, met at each look at one of two apps.
FAULTY = """
import sys
from provisioner.daemon import looks
original = looks.reconcile

def faulty(registry, app, *arguments, **named):
    if app.slug == "bad":
        raise KeyError("nobody foresaw this")
    return original(registry, app, *arguments, **named)

looks.reconcile = faulty
from provisioner.__main__ import main
main()
"""


def _wrong(cwd: Path) -> dict[str, str]:
    rows = json.loads(provisioner(cwd, "doctor", "--json").stdout)
    return {row["check"]: row["message"] for row in rows if not row["ok"]}


def _leave_no_descriptor(pid: int) -> tuple[int, int]:
    """From now on the process can open nothing; the limits that it had."""
    free = next(number for number in itertools.count() if not os.path.lexists(f"/proc/{pid}/fd/{number}"))
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, usual[1]))
    return usual


def test_a_daemon_that_had_no_descriptor_to_spare_answers_pushes_again(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    ok(hub, "init", "--grace", "0s")
    with daemon(home) as running:
        pid = running.process.pid
        assert "git-branch/first connected" in git(clone, "push", "hub", "main:first").stderr
        usual = _leave_no_descriptor(pid)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.connect(str(home / "daemon.sock"))
            until(lambda: "the thread hooks failed and continues" in running.log.read_text())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
            pushed = git(clone, "push", "hub", "main:second").stderr
        assert "git-branch/second connected" in pushed
        assert "still working" not in pushed
        assert _wrong(hub) == {}


def test_a_daemon_whose_descriptors_are_used_up_for_a_while_works_on(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init", "--grace", "0s")
    with daemon(home) as running:
        pid = running.process.pid
        usual = _leave_no_descriptor(pid)
        git(clone, "branch", "one")
        until(lambda: "Too many open files" in running.log.read_text() or running.process.poll() is not None)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        assert running.process.poll() is None, running.log.read_text()
        git(clone, "branch", "two")
        until(lambda: connected(clone) == branches(clone))
        assert running.stop() == 0


def test_the_quorum_monitor_goes_on_after_a_failure_that_is_none_of_ours(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(repository(tmp_path / "shop"), "init")
    monkeypatch.setattr(quorum_monitor, "EVERY_SECONDS", 0.01)
    looks: list[str] = []

    def fails(_: object) -> tuple[str, float]:
        looks.append("looked")
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(quorum_monitor, "_problem", fails)
    with Registry.open(Home(str(home))):
        monitor = quorum_monitor.QuorumMonitor(Home(str(home)), lambda _: None, lambda *_, **__: None)
        monitor.start()
        try:
            until(lambda: len(looks) > 1)
        finally:
            monitor.close()


def test_the_failure_of_one_app_keeps_no_other_from_being_provisioned(home: Path, tmp_path: Path) -> None:
    good, bad = repository(tmp_path / "good"), repository(tmp_path / "bad")
    for clone in (bad, good):
        ok(clone, "init", "--no-hooks")
    with daemon(home, sys.executable, "-c", FAULTY, "watch") as running:
        until(lambda: "nobody foresaw this" in running.log.read_text())
        git(good, "branch", "login")
        git(bad, "branch", "login")
        until(lambda: running.process.poll() is not None or connected(good) == branches(good))
        assert running.process.poll() is None, running.log.read_text()
        assert connected(bad) == {"main"}
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("module", "owner", "method", "thread"),
    [
        ("provisioner.daemon.quorum_monitor", "QuorumMonitor", "_look", "quorum monitor"),
        ("watchdog.observers.inotify_c", "InotifyFD", "handle_event", "refs"),
    ],
)
def test_doctor_names_a_thread_of_the_daemon_that_is_gone(
    home: Path, tmp_path: Path, module: str, owner: str, method: str, thread: str
) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init", "--no-hooks")
    trigger = tmp_path / "trigger"
    text = ENDED.format(module=module, owner=owner, method=method)
    with daemon(home, sys.executable, "-c", text, str(trigger), "watch") as running:
        assert _wrong(clone) == {}
        trigger.touch()
        git(clone, "branch", "login")
        until(lambda: _wrong(clone))
        found = _wrong(clone)["daemon"]
        assert f"process {running.process.pid} runs, but these threads have ended: {thread}" in found
        assert "Restart it" in found


def test_a_daemon_that_hears_nothing_any_more_polls(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init", "--no-hooks")
    trigger = tmp_path / "trigger"
    text = ENDED.format(module="watchdog.observers.inotify_c", owner="InotifyFD", method="handle_event")
    text = f"from provisioner.daemon import loop\nloop.LISTEN_SECONDS = 0.5\n{text}"
    with daemon(home, sys.executable, "-c", text, str(trigger), "watch") as running:
        trigger.touch()
        git(clone, "branch", "login")
        until(lambda: connected(clone) == branches(clone))
        assert running.stop() == 0


def test_doctor_and_the_metrics_name_a_thread_of_the_server_that_is_gone(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init", "--no-hooks")
    trigger = tmp_path / "trigger"
    text = ENDED.format(module="provisioner.daemon.quorum_monitor", owner="QuorumMonitor", method="_look")
    port = free_port()
    command = (sys.executable, "-c", text, str(trigger), "up", "--port", str(port))
    with daemon(home, *command, announced="server") as running:
        until(lambda: 'provisioner_thread_up{thread="quorum monitor"} 1' in _page(port, "metrics")[1])
        assert _page(port, "healthz") == (200, "ok\n")
        assert _wrong(clone) == {}
        trigger.touch()
        until(lambda: 'provisioner_thread_up{thread="quorum monitor"} 0' in _page(port, "metrics")[1])
        assert _page(port, "healthz") == (503, "threads are gone: quorum monitor. Restart the server")
        assert _page(port, "readyz") == (200, "ok\n")  # what it serves, it serves
        assert "threads are gone: quorum monitor" in _wrong(clone)["server"]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0


def _page(port: int, name: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_thread_whose_work_raises_is_run_again_and_counted() -> None:
    ran: list[int] = []

    def work() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise SystemExit  # would end a thread without a word
        if len(ran) == 2:
            raise OSError("no descriptor to spare")
        until(lambda: counted)

    counted: list[int] = []
    thread = ServiceThread("of this test", work)
    thread.start()
    until(lambda: len(ran) == 3)
    (found,) = [state for state in states() if state.name == "of this test"]
    assert (found.alive, found.failures) == (True, 2)
    counted.append(1)
    thread.join(60)
    assert [state for state in states() if state.name == "of this test"] == []
