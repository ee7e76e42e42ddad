"""Requests reach the app of their host, in every protocol, and as they were sent."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from http.client import HTTPConnection
from typing import Any

import pytest
from router_world import App, World, at_once, settled, shop, start_app, until

from provisioner.hosting.router.waking import AppFailed, AppRunning, AppsBusy, Woken

LOGIN = "login.shop.localhost"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, App]]:
    with shop(tmp_path_factory.mktemp("shop")) as found:
        yield found


@pytest.fixture
def routed(around: tuple[World, App]) -> World:
    return around[0]


@pytest.fixture
def app(around: tuple[World, App]) -> App:
    return around[1]


def test_a_request_reaches_the_app_as_it_was_sent(routed: World) -> None:
    with_port = f"{LOGIN}:{routed.port}"
    found = routed.seen(with_port, "/a%2Fb/../c?d=e&d=%20", method="POST", body=b"\x00body", headers={"X-Own": "1"})
    assert found["method"] == "POST"
    assert found["body"] == "\x00body"
    assert found["headers"]["host"] == with_port
    assert found["headers"]["x-own"] == "1"
    assert found["url"].endswith("?d=e&d=%20")
    assert found["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert found["headers"]["x-forwarded-proto"] == "http"
    assert found["headers"]["x-forwarded-host"] == with_port


def test_what_a_client_says_of_itself_as_a_proxy_would_is_not_believed(routed: World) -> None:
    said: tuple[str, ...] = (
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Real-IP",
        "Forwarded",
    )
    said += ("X-Provisioner-Host", "X-Provisioner-Upstream", "X-Provisioner-Bypass")
    found = routed.seen(LOGIN, headers=dict.fromkeys(said, "203.0.113.9"))
    assert "203.0.113.9" not in str(found)


def test_an_answer_does_not_say_what_is_in_front_of_the_app(routed: World) -> None:
    for host, path in (
        (LOGIN, "/"),
        ("nobody.localhost", "/"),
        ("closed.shop.localhost", "/"),
        (LOGIN, "/.provisioner/x"),
    ):
        with routed.request(host, path) as answer:
            answer.read()
            assert answer.getheader("server") is None, (host, path)
            assert answer.getheader("via") is None, (host, path)


def curl(routed: World, path: str, *options: str) -> str:
    resolve = f"{LOGIN}:{routed.port}:127.0.0.1"
    command = ["curl", "-sS", "--max-time", "60", "--resolve", resolve, *options, f"http://{LOGIN}:{routed.port}{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("version", ["--http2", "--http2-prior-knowledge", "--http1.1"])
def test_http_2_without_tls_by_prior_knowledge_and_an_offered_upgrade_does_no_harm(routed: World, version: str) -> None:
    found = curl(routed, "/upload", version, "-d", "abc", "-w", " %{http_version}")
    assert found == f"3 {'2' if version == '--http2-prior-knowledge' else '1.1'}"


def test_several_requests_share_a_connection(routed: World) -> None:
    connection = HTTPConnection("127.0.0.1", routed.port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/upload", headers={"Host": LOGIN})
        answer = connection.getresponse()
        assert answer.read() == b"0"
        own = connection.sock
        assert own is not None
    connection.request("GET", "/upload", headers={"Host": "nobody.localhost"})
    assert connection.getresponse().status == 404
    connection.close()


def test_a_websocket(routed: World) -> None:
    with socket.create_connection(("127.0.0.1", routed.port), timeout=60) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /socket HTTP/1.1\r\nHost: {LOGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        stream = connection.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 101")
        while stream.readline() not in (b"\r\n", b""):
            continue
        for word in (b"one", b"two"):
            mask = os.urandom(4)
            masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(word))
            connection.sendall(bytes([0x81, 0x80 | len(word)]) + mask + masked)
            answer = b"echo " + word
            assert stream.read(2 + len(answer)) == bytes([0x81, len(answer)]) + answer


def test_the_first_event_comes_before_the_second_is_sent(routed: World) -> None:
    with routed.request(LOGIN, "/events") as answer:
        assert answer.readline() == b"data: first\n"
        assert routed.get(LOGIN, "/release") == (200, b"released")
        assert answer.read() == b"\ndata: second\n\n"


def test_an_app_hears_that_a_client_has_left(routed: World) -> None:
    before = int(routed.get(LOGIN, "/left")[1])
    with routed.request(LOGIN, "/events") as answer:
        assert answer.readline() == b"data: first\n"
    until(lambda: int(routed.get(LOGIN, "/left")[1]) > before, "the app still sends events to a client that has left")


def test_a_body_is_echoed_while_it_is_sent(routed: World) -> None:
    with socket.create_connection(("127.0.0.1", routed.port), timeout=60) as connection:
        connection.sendall(f"POST /echo HTTP/1.1\r\nHost: {LOGIN}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        stream = connection.makefile("rb")
        connection.sendall(b"3\r\none\r\n")
        assert stream.readline().startswith(b"HTTP/1.1 200")
        while stream.readline() not in (b"\r\n", b""):
            continue
        assert stream.read(8) == b"3\r\none\r\n"
        connection.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        assert stream.read(13) == b"3\r\ntwo\r\n0\r\n\r\n"


def memory(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def test_200_megabytes_pass_both_ways_without_being_kept(routed: World) -> None:
    size = 200 << 20
    routed.get(LOGIN, "/download?megabytes=1")
    before = memory(routed.pid)
    most = [before]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            most.append(memory(routed.pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        pieces = (bytes(1 << 20) for _ in range(200))
        assert routed.get(LOGIN, "/upload", method="POST", body=pieces) == (200, str(size).encode())
        with routed.request(LOGIN, "/download?megabytes=200") as answer:
            assert sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b"")) == size
    finally:
        ended.set()
        looking.join()
    assert max(most) - before < 40_000, f"{before} to {max(most)} kB"


def test_a_route_changes_under_64_requests_in_flight_and_none_fails(routed: World, app: App) -> None:
    other = start_app("other")
    host = "switched.shop.localhost"
    routed.open(host, app.port)
    ended = threading.Event()

    def ask(_: int) -> tuple[int, set[str]]:
        count, names = 0, set()
        while not ended.is_set():
            names.add(routed.seen(host, method="POST", body=b"x")["name"])
            count += 1
        return count, names

    def switch() -> None:
        for round_ in range(40):
            routed.routes.set(host, (other, app)[round_ % 2].port, public=True)
            time.sleep(0.02)  # between two deploys; nothing waits for it
        ended.set()

    switching = threading.Thread(target=switch)
    switching.start()
    found = at_once(64, ask)
    switching.join()
    other.stop()
    assert [each for each in found if isinstance(each, BaseException)] == []
    assert set().union(*(names for _, names in found)) == {"app", "other"}


# the gateway


def test_50_requests_at_once_wake_a_sleeping_app_once(routed: World, app: App) -> None:
    host = "sleeping.shop.localhost"
    future: Future[Woken] = Future()
    routed.apps.site(host)
    routed.apps.answers[host] = lambda: future

    def wake() -> None:
        until(lambda: routed.router is not None and routed.router.waiting == 50, "not all requests wait")
        future.set_result(AppRunning(app.port))

    waking = threading.Thread(target=wake)
    waking.start()
    found = at_once(50, lambda place: routed.get(host, "/upload", method="POST", body=b"x" * place))
    waking.join()
    assert found == [(200, str(place).encode()) for place in range(50)]
    assert routed.apps.woken[host] == 1


def test_a_browser_sees_that_an_app_starts_and_a_program_waits(routed: World, app: App) -> None:
    host = "slow.shop.localhost"
    future: Future[Woken] = Future()
    routed.apps.site(host)
    routed.apps.answers[host] = lambda: future
    with routed.request(host, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}) as answer:
        page = answer.read().decode()
        assert (answer.status, answer.getheader("retry-after")) == (503, "2")
        assert "shop, slow is starting" in page
        assert '<meta http-equiv="refresh" content="2">' in page
    waiting: list[Any] = []
    program = threading.Thread(target=lambda: waiting.append(routed.get(host, "/upload", method="POST", body=b"abc")))
    program.start()
    with routed.request(host, headers={"Accept": "text/html"}) as answer:  # has waited for 2 s beside it
        assert answer.status == 503
    assert waiting == []
    future.set_result(AppRunning(app.port))
    program.join()
    assert waiting == [(200, b"3")]
    assert routed.apps.woken[host] == 1


def test_a_failure_is_shown_with_its_reason_and_the_end_of_the_log(routed: World) -> None:
    host = "failing.shop.localhost"
    routed.apps.site(host)
    routed.apps.answers[host] = lambda: settled(AppFailed("it ended with exit code 3", "one\n<script>two</script>"))
    status, text = routed.get(host)
    assert (status, text) == (
        502,
        b"shop, failing failed to start: it ended with exit code 3\n\none\n<script>two</script>\n",
    )
    status, page = routed.get(host, headers={"Accept": "text/html"})
    assert status == 502
    assert b"it ended with exit code 3" in page
    assert b"&lt;script&gt;two" in page
    assert b"<script>" not in page


def test_a_client_is_told_when_to_ask_again_if_too_many_apps_run(routed: World) -> None:
    host = "busy.shop.localhost"
    routed.apps.site(host)
    routed.apps.answers[host] = lambda: settled(AppsBusy(7))
    with routed.request(host) as answer:
        assert (answer.status, answer.getheader("retry-after")) == (503, "7")


def test_an_unknown_host_is_not_found_and_wakes_nothing(routed: World) -> None:
    status, text = routed.get("nobody.shop.localhost")
    assert (status, text) == (404, b"No preview at this address. Its branch may be gone. See: provisioner status\n")
    assert routed.apps.woken["nobody.shop.localhost"] == 0


def test_an_app_that_is_gone_from_its_port_is_woken_and_gets_the_request(routed: World, app: App) -> None:
    host = "moved.shop.localhost"
    gone = start_app("gone")
    routed.open(host, gone.port)
    assert routed.seen(host)["name"] == "gone"
    gone.stop()
    routed.apps.answers[host] = lambda: settled(AppRunning(app.port))
    routed.apps.unreachable.clear()
    assert routed.seen(host)["name"] == "app"
    assert routed.seen(host, method="POST", body=b"kept")["body"] == "kept"
    assert routed.apps.unreachable == [gone.port] * 2


def test_an_app_that_never_comes_back_is_said_to_be_gone(routed: World) -> None:
    host = "dead.shop.localhost"
    dead = start_app("dead")
    dead.stop()
    routed.open(host, dead.port)
    routed.apps.answers[host] = lambda: settled(AppRunning(dead.port))
    status, text = routed.get(host)
    assert (status, text) == (503, b"The app cannot be reached. See its log: provisioner logs\n")


def test_requests_for_one_app_take_no_more_than_their_part_of_the_places(
    routed: World, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.hosting.router.pending.MOST_EACH", 3)
    future: Future[Woken] = Future()
    for host in ("crowded.shop.localhost", "other.shop.localhost"):
        routed.apps.site(host)
    routed.apps.answers["crowded.shop.localhost"] = lambda: future
    routed.sleeping("other.shop.localhost", app.port)
    found: list[int] = []

    def ask(_: int) -> None:
        found.append(routed.get("crowded.shop.localhost", "/upload")[0])
        if len(found) == 5:  # all but those that wait
            assert routed.get("other.shop.localhost", "/upload")[0] == 200
            future.set_result(AppRunning(app.port))

    assert at_once(8, ask) == [None] * 8
    assert sorted(found) == [200] * 3 + [503] * 5


def test_a_client_that_leaves_gives_up_its_place(routed: World) -> None:
    host = "left.shop.localhost"
    routed.apps.site(host)
    routed.apps.answers[host] = Future
    assert routed.router is not None
    with socket.create_connection(("127.0.0.1", routed.port), timeout=60) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        until(lambda: routed.router and routed.router.waiting == 1, "it does not wait")
    until(lambda: routed.router and routed.router.waiting == 0, "it still waits")
