"""Ready means ready: while `/readyz` says so, a program that is started is told of a server, in every order."""

from __future__ import annotations

import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from connect_world import Server
from support import free_port, ok, provisioner, shop, until

from provisioner.connect.server.options import Options
from provisioner.connect.server.runner import RunningServer
from provisioner.system import pidfile
from provisioner.system.home import Home

ROUNDS = 40 if "KV_NIGHTLY" in os.environ else 1


def page(port: int, name: str) -> int:
    """The status; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def running(home: Path, port: int, *, beside: bool = False) -> RunningServer:
    return RunningServer(Home(str(home)), Options(port=port, beside=beside), lambda *_, **__: None, lambda: None)


def told(home: Path) -> bool:
    return told_of(home) != ""


def told_of(home: Path) -> str:
    """The URL of the server that programs are told of; empty if they are told of none."""
    found = pidfile.at_work(str(home / "server"))
    return found[1] if found is not None else ""


@pytest.mark.parametrize("name", ["readyz", "healthz"])
def test_a_server_is_not_ready_before_apps_are_told_of_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ok(shop(tmp_path / "shop"), "status")
    about_to, may = threading.Event(), threading.Event()
    announce = pidfile.announce

    def late(*arguments: str) -> None:
        about_to.set()
        assert may.wait(60)
        announce(*arguments)

    monkeypatch.setattr(pidfile, "announce", late)
    port = free_port()
    server = running(home, port)
    starting = threading.Thread(target=server.start)
    starting.start()
    assert about_to.wait(60)
    seen: list[tuple[int, bool]] = []
    asking = threading.Thread(target=lambda: seen.append((page(port, name), told(home))))
    asking.start()
    asking.join(2)  # one that cannot answer yet is not ready either
    may.set()
    starting.join()
    asking.join()
    try:
        assert (200, False) not in seen
        assert page(port, name) == 200
    finally:
        server.stop()


def test_a_server_that_stops_is_not_ready_when_apps_are_told_no_more(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(shop(tmp_path / "shop"), "status")
    withdraw = pidfile.withdraw
    seen: list[tuple[int, bool]] = []
    port = free_port()

    def slow(path: str) -> None:
        withdraw(path)
        asking = threading.Thread(target=lambda: seen.append((page(port, "readyz"), told(home))))
        asking.start()
        asking.join(2)

    monkeypatch.setattr(pidfile, "withdraw", slow)
    server = running(home, port)
    server.start()
    server.stop()
    until(lambda: seen)
    assert (200, False) not in seen


def test_a_server_of_which_apps_are_told_no_more_is_told_of_again(home: Path, tmp_path: Path) -> None:
    ok(shop(tmp_path / "shop"), "status")
    port = free_port()
    server = running(home, port)
    server.start()
    try:
        (home / "server").unlink()
        assert page(port, "readyz") == 503 or told(home)
        until(lambda: told(home) and page(port, "readyz") == 200)
    finally:
        server.stop()
    assert not (home / "server").exists()


def test_a_server_beside_takes_over_while_the_first_one_drains(home: Path, tmp_path: Path) -> None:
    """What is begun may take as long as a supervisor waits: meanwhile programs start."""
    ok(shop(tmp_path / "shop"), "status")
    first, other = free_port(), free_port()
    draining, beside = running(home, first), running(home, other, beside=True)
    draining.start()
    beside.start()
    try:
        with socket.create_connection(("127.0.0.1", first)) as upload:
            upload.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
            stopping = threading.Thread(target=draining.stop)
            stopping.start()
            until(lambda: told_of(home).endswith(f":{other}"))
            assert page(other, "readyz") == 200
        stopping.join()
        assert told(home)
    finally:
        beside.stop()
    assert not (home / "server").exists()


class Execs:
    """Programs that are started one after the other, beside servers that come and go.

    One is told of a server if some server is ready before it starts and none stops meanwhile; and also while servers stop,
    if the one that programs are told of is ready before and after.
    """

    def __init__(self, repo: Path, home: Path, ports: tuple[int, ...]) -> None:
        self.repo, self.home, self.ports = repo, home, ports
        self.stops = 0  # odd while one is under way
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            stops = self.stops
            some, first = any(page(port, "readyz") == 200 for port in self.ports), self.told_of()
            done = provisioner(self.repo, "exec", "--branch", "login", "--", "printenv", "DENO_KV_ACCESS_TOKEN")
            calm = stops == self.stops and not stops % 2
            ready = (some and calm) or (first != "" and first == self.told_of())
            by_url = done.returncode == 0 and done.stdout.startswith("ptd_")
            self.counts[f"ready={ready} url={by_url}"] += 1
            if ready and not by_url:
                self.wrong.append(f"{done.returncode} {done.stdout} {done.stderr}")

    def told_of(self) -> str:
        """Process and URL of the server that programs are told of, if that is ready."""
        found = pidfile.at_work(str(self.home / "server"))
        if found is None or page(int(found[1].rpartition(":")[2]), "readyz") != 200:
            return ""
        return f"{found[0]} {found[1]}"

    def meanwhile(self, step: Callable[[], object], *, stops: bool = False) -> None:
        self.stops += stops
        step()
        self.stops += stops
        seen = sum(self.counts.values())
        until(lambda: sum(self.counts.values()) > seen + 2 or self.ending.is_set())


def test_no_program_opens_the_file_while_a_server_is_ready(home: Path, tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    one, two = Server(home, free_port()), Server(home, free_port(), ("--beside",))
    execs = Execs(repo, home, (one.port, two.port))
    thread = threading.Thread(target=execs.run)
    thread.start()
    try:
        for _ in range(ROUNDS):
            one.options = ()
            execs.meanwhile(one.start)
            execs.meanwhile(two.start)
            execs.meanwhile(one.stop, stops=True)
            one.options = ("--beside",)
            execs.meanwhile(one.start)
            execs.meanwhile(lambda: two.stop(signal.SIGKILL), stops=True)
            execs.meanwhile(lambda: one.stop(signal.SIGKILL), stops=True)
            one.options = ()
            execs.meanwhile(one.start)
            execs.meanwhile(one.stop, stops=True)
    finally:
        execs.ending.set()
        thread.join()
        one.close()
        two.close()
    assert execs.wrong == []
    assert execs.counts["ready=True url=True"] > 2 * ROUNDS, execs.counts
