"""A kill -9 of the daemon at each step of an app's life, and of any of its processes at any time: then all is as before."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from preview_world import PreviewWorld, previews, up
from support import git, ok, points, until

from provisioner.hosting.deployments.sockets import listeners
from provisioner.hosting.routes import Routes
from provisioner.system.home import Home

LONG = os.environ.get("KV_NIGHTLY") == "1"
BUILD = ("--command", "exec python3 server.py", "--install", "true", "--build", "true")
RESTARTED = ("hosting.started", "hosting.healthy", "hosting.routed", "hosting.recorded")
"""The points that a daemon also passes when it starts the two apps that ran before."""
POINTS = points("hosting") if LONG else ["hosting.routed"]


@contextmanager
def _world(tmp_path: Path, home: Path, *options: str) -> Iterator[PreviewWorld]:
    with previews(tmp_path, home, *BUILD, *options) as world:
        ok(world.bare, "app", "set", "--grace", "0s")
        world.push("login", "one")
        assert _texts(world) == ["one", "first"]
        yield world


def _texts(world: PreviewWorld) -> list[str]:
    try:
        return [str(world.said(host)["text"]) for host in ("login.shop.localhost", "shop.localhost")]
    except (OSError, AssertionError):
        return []


def _nothing_is_left(world: PreviewWorld) -> None:
    """Once the daemon has ended."""
    ports = {*Routes(Home(str(world.home))).all().values(), world.port}
    world.running.stop()
    until(lambda: not world.all_processes() and not world.supervisors())
    assert [port for port in ports if listeners(port)] == []


@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_that_is_killed_at_a_step_finishes_or_undoes_it(tmp_path: Path, home: Path, point: str) -> None:
    with _world(tmp_path, home, "--idle", "1s" if point == "hosting.unrouted" else "1h") as world:
        world.running.stop()
        until(lambda: not world.processes())
        fault = f"{point}:3" if point in RESTARTED else point
        with up(home, world.port, add={"PROVISIONER_FAULT": fault}) as armed:
            until(lambda: _texts(world) == ["one", "first"])
            world.push("login", "two")
            if point in ("hosting.ended", "hosting.forgotten"):
                git(world.clone, "push", "-q", "origin", ":login")
            until(lambda: armed.process.poll() is not None)
            assert armed.process.returncode == -signal.SIGKILL
        with up(home, world.port) as running:
            world.running = running
            if point in ("hosting.ended", "hosting.forgotten"):
                until(lambda: world.get("login.shop.localhost")[0] == 404 and len(world.processes()) == 1)
                until(lambda: len(list((home / "log/apps").glob("*.log"))) == 2)  # production's
                assert len([place for place in (home / "work").iterdir() if "cache" not in place.name]) == 1
            else:
                until(lambda: _texts(world) == ["two", "first"])
                until(lambda: len(world.processes()) == 2)
            _nothing_is_left(world)


@pytest.mark.skipif(not LONG, reason="it takes minutes, and each kind of process is killed in test_hosted_apps")
def test_what_is_killed_at_any_time_is_replaced(tmp_path: Path, home: Path) -> None:
    chance = random.Random(4217)
    taken = list[float]()
    with _world(tmp_path, home) as world, ExitStack() as daemons:
        expected = "one"
        for number in range(20):
            victim = chance.choice(["app", "supervisor", "router", "daemon"])
            pushing = None
            if chance.random() < 0.5:
                expected = f"text {number}"
                pushing = threading.Thread(target=world.push, args=("login", expected))
                pushing.start()
                time.sleep(chance.random())
            began = time.monotonic()
            _kill(world, victim, chance)
            if victim == "daemon":
                world.running = daemons.enter_context(up(home, world.port))
            _is_as_before(world, expected)
            taken.append(time.monotonic() - began)
            if pushing is not None:
                pushing.join()
        print(f"seconds until all was as before: {sorted(round(each, 1) for each in taken)}")
        _nothing_is_left(world)


def _is_as_before(world: PreviewWorld, text: str) -> None:
    seen: list[object] = []

    def is_so() -> bool:
        seen[:] = _texts(world), len(world.processes()), len(world.routers()), len(world.supervisors())
        return seen == [[text, "first"], 2, 1, 2]

    try:
        until(is_so)
    except AssertionError as error:
        raise AssertionError(f"{seen} instead of {text}: {world.running.log.read_text()[-3000:]}") from error


def _kill(world: PreviewWorld, victim: str, chance: random.Random) -> None:
    if victim == "daemon":
        world.running.process.kill()
        world.running.process.wait()
        return
    found = {"app": world.processes, "supervisor": world.supervisors, "router": world.routers}[victim]
    if pids := found():
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
