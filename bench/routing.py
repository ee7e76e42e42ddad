"""A request through the router, against the same Caddy with one static route, and against the app alone. 64 in flight."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from bench.kv import DENO
from bench.table import Row, compared
from bench.world import alternated, free_port, wait_until
from provisioner.core.clock import now_ms
from provisioner.core.ids import AppId
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.binary import caddy
from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.router import Router
from provisioner.hosting.router.waking import NoSuchApp, Site, Woken
from provisioner.hosting.routes import Routes
from provisioner.system.home import Home

OPEN, CLOSED = "login.shop.localhost", "closed.shop.localhost"
REQUESTS, IN_FLIGHT = 10_000, 64
APP = "Deno.serve({hostname: '127.0.0.1', port: Number(Deno.args[0]), onListen() {}}, () => new Response('hello'));"


class _RunningApps:
    def find(self, host: str) -> Site | None:
        return Site(AppId("app"), host, public=host == OPEN)  # or its sessions end

    def wake(self, host: str, unreachable: int | None) -> Future[Woken]:
        answer: Future[Woken] = Future()
        answer.set_result(NoSuchApp())
        return answer


def measure(runs: int) -> list[Row]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app, port, static = (free_port() for _ in range(3))
        stack.enter_context(_running([DENO, "run", "-q", "--allow-net", _script(directory), str(app)], app))
        config = directory / "static.json"
        config.write_text(json.dumps(_static(static, app)))
        stack.enter_context(_running([caddy(), "run", "--config", str(config)], static, {"HOME": str(directory)}))
        cookie = stack.enter_context(_router(directory, port, app))
        alone = partial(_load, app, OPEN)
        ways = (partial(_load, port, OPEN), partial(_load, port, CLOSED, cookie), partial(_load, static, OPEN), alone)
        open_, closed, peer, itself = alternated(runs, *(lambda _, way=way: way() for way in ways))
    return [
        compared("route, against a static route", open_, peer, 1 / 0.9),
        compared("route with a session, against a static route", closed, peer, None),
        compared("route, against the app alone", open_, itself, 1 / 0.5),
        compared("static route, against the app alone", peer, itself, None),
    ]


@contextmanager
def _router(directory: Path, port: int, app: int) -> Iterator[str]:
    """A router with two hosts for the block; the cookie of a session of the one that is not open."""
    home = Home(str(directory / "home"))
    home.create()
    routes = Routes(home)
    routes.set(OPEN, app, public=True)
    routes.set(CLOSED, app, public=False)
    router = Router(home, RouterOptions(port=port), _RunningApps(), lambda *_, **__: None)
    router.start()
    try:
        assert router.problem == "", router.problem
        _, value = PreviewAccess(home).sessions.begin(CLOSED, AppId("app"), "bench", now_ms())
        yield f"provisioner_preview={value}"
    finally:
        router.stop()


def _static(port: int, app: int) -> dict[str, object]:
    keep = {"max_idle_conns_per_host": 256}
    transport = {"protocol": "http", "keep_alive": keep, "compression": False}
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{app}"}], "transport": transport}
    route = {"match": [{"host": [OPEN]}], "handle": [proxy]}
    server = {"listen": [f"127.0.0.1:{port}"], "routes": [route], "automatic_https": {"disable": True}}
    return {"admin": {"disabled": True}, "apps": {"http": {"servers": {"static": server}}}}


def _script(directory: Path) -> str:
    script = directory / "app.ts"
    script.write_text(APP)
    return str(script)


@contextmanager
def _running(command: Sequence[str], port: int, more: Mapping[str, str] | None = None) -> Iterator[None]:
    # In a session of its own, as the router is: Linux shares the processor among sessions.
    process = subprocess.Popen(
        command, env={**os.environ, **(more or {})}, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": OPEN})
    with suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _load(port: int, host: str, cookie: str = "") -> float:
    """Seconds for all requests over 64 connections, each of which has to succeed."""
    command = ["h2load", "--h1", "-n", str(REQUESTS), "-c", str(IN_FLIGHT), "-t", "1", f"--connect-to=127.0.0.1:{port}"]
    command += [f"-Hcookie: {cookie}"] if cookie else []
    done = subprocess.run([*command, f"http://{host}:{port}/"], check=True, capture_output=True, text=True)
    assert f"{REQUESTS} succeeded" in done.stdout, done.stdout
    found = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
    assert found is not None
    return float(found[1]) / (1000 if found[2] == "ms" else 1)
