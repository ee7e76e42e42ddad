"""A real router with a gateway, and real apps behind it."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from support import free_port

from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.router import Router
from provisioner.hosting.router.waking import AppRunning, NoSuchApp, Site, Woken
from provisioner.hosting.routes import Routes
from provisioner.system.home import Home

APP = Path(__file__).with_name("router_app.ts")
DENO = Path(sys.executable).with_name("deno")


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


@dataclass
class App:
    """The app of router_app.ts on a port."""

    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_app(name: str = "app", port: int = 0) -> App:
    port = port or free_port()
    environ = {**os.environ, "PORT": str(port), "NAME": name, "DENO_NO_UPDATE_CHECK": "1"}
    process = subprocess.Popen([DENO, "run", "-q", "--allow-net", "--allow-env", APP], env=environ)

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/left", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    until(answers, "the app does not answer")
    return App(port, process)


@dataclass
class Apps:
    """A supervisor as the gateway sees it: `sites` are what the registry knows; `answers` wakes a host."""

    sites: dict[str, Site] = field(default_factory=dict)
    answers: dict[str, Callable[[], Future[Woken]]] = field(default_factory=dict)
    woken: Counter[str] = field(default_factory=Counter)
    unreachable: list[int | None] = field(default_factory=list)

    def find(self, host: str) -> Site | None:
        return self.sites.get(host)

    def wake(self, host: str, unreachable: int | None) -> Future[Woken]:
        self.woken[host] += 1
        self.unreachable.append(unreachable)
        return self.answers.get(host, lambda: settled(NoSuchApp()))()

    def site(self, host: str, *, public: bool = True, app_id: str = "app", production: bool = False) -> None:
        self.sites[host] = Site(app_id, f"shop, {host.partition('.')[0]}", public, production)


def settled(woken: Woken) -> Future[Woken]:
    future: Future[Woken] = Future()
    future.set_result(woken)
    return future


class World:
    """One router. `log` has what it logged."""

    def __init__(self, directory: Path, options: RouterOptions | None = None) -> None:
        self.home = Home(str(directory))
        self.home.create()
        self.options = options or RouterOptions(port=free_port())
        self.port = self.options.port
        self.apps = Apps()
        self.routes = Routes(self.home)
        self.access = PreviewAccess(self.home)
        self.log: list[tuple[str, str]] = []
        self.router: Router | None = None

    def start(self, **changed: Any) -> Router:
        self.options = replace(self.options, **changed)
        self.port = self.options.port
        self.router = Router(self.home, self.options, self.apps, self._tell)
        self.router.start()
        return self.router

    def stop(self, *, keep_router: bool = False) -> None:
        router, self.router = self.router, None
        if router is not None:
            router.stop(keep_router=keep_router)

    def open(self, host: str, port: int) -> None:
        self.apps.site(host)
        self.routes.set(host, port, public=True)

    def close(self, host: str, port: int, app_id: str = "app", *, production: bool = False) -> None:
        self.apps.site(host, public=False, app_id=app_id, production=production)
        self.routes.set(host, port, public=False)

    def sleeping(self, host: str, port: int, app_id: str = "app", *, public: bool = True) -> None:
        self.apps.site(host, public=public, app_id=app_id)
        self.apps.answers[host] = lambda: settled(AppRunning(port))

    @property
    def pid(self) -> int:
        return int((Path(self.home.path) / "router" / "caddy.pid").read_text())

    def _tell(self, level: str, message: str, **_: object) -> None:
        self.log.append((level, message))

    # requests

    @contextmanager
    def request(
        self,
        host: str,
        path: str = "/",
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        port: int = 0,
    ) -> Iterator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=120)
        try:
            connection.request(method, path, body, {"Host": host, **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, host: str, path: str = "/", **more: Any) -> tuple[int, bytes]:
        with self.request(host, path, **more) as answer:
            return answer.status, answer.read()

    def seen(self, host: str, path: str = "/", **more: Any) -> dict[str, Any]:
        """The request as the app got it, its headers by name in lowercase."""
        status, body = self.get(host, path, **more)
        assert status == 200, (status, body)
        found: dict[str, Any] = json.loads(body)
        found["headers"] = dict(found["headers"])
        return found

    def raw(self, request: bytes, port: int = 0) -> bytes:
        """What comes back for these bytes, until the router closes the connection, so the request must ask for that."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=60) as connection:
            connection.sendall(request)
            found = bytearray()
            with suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
        return bytes(found)


@contextmanager
def world(directory: Path, options: RouterOptions | None = None, *, start: bool = True) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(directory, options)
        stack.callback(made.stop)
        if start:
            made.start()
            assert made.router is not None
            assert made.router.problem == ""
        yield made


def connected(port: int, host: str, path: str) -> socket.socket:
    """A request that is not sent to its end."""
    found = socket.create_connection(("127.0.0.1", port), timeout=60)
    found.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n".encode())
    return found


def websocket(port: int, host: str) -> socket.socket:
    """A WebSocket to the app of a host."""
    key = base64.b64encode(bytes(16)).decode()
    found = connected(port, host, "/socket")
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    found.sendall(f"{upgrade}Sec-WebSocket-Key: {key}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += found.recv(1000)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return found


def echoes(connection: socket.socket, text: bytes) -> bool:
    """Does the app answer on a WebSocket?"""
    connection.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
    expected = bytes((0x81, len(text) + 5)) + b"echo " + text
    return connection.recv(len(expected), socket.MSG_WAITALL) == expected


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of calls from as many threads, which begin together."""
    found: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(place: int) -> None:
        barrier.wait()
        try:
            found[place] = work(place)
        except BaseException as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextmanager
def shop(directory: Path) -> Iterator[tuple[World, App]]:
    """A router with an app, which answers for `login.shop.localhost`, open, and `closed.shop.localhost`, which is not."""
    # Braces and brackets mean something to Caddy in paths.
    with ExitStack() as stack:
        app = start_app()
        stack.callback(app.stop)
        found = stack.enter_context(world(directory / "home {x} [y] *"))
        found.open("login.shop.localhost", app.port)
        found.close("closed.shop.localhost", app.port)
        yield found, app
