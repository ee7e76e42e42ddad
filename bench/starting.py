"""The start of a branch's app: by the first request after it slept, and by a push; against the same by hand."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from bench.kv import DENO
from bench.table import Row, compared
from bench.world import PROVISIONER, World, alternated, free_port, wait_until, world

APP = """\
const kv = await Deno.openKv();
Deno.serve({ onListen() {} }, async () => {
  const { value } = await kv.get<number>(["requests"]);
  await kv.set(["requests"], (value ?? 0) + 1);
  return new Response(TEXT);
});
"""
START = "deno run --quiet -A --unstable-kv main.ts"
WAKE_SECONDS, PUSH_SECONDS = 0.1, 0.3  # that they may take longer than by hand


def measure(runs: int) -> list[Row]:
    with world() as here:
        here.environ["PATH"] = os.path.dirname(DENO) + os.pathsep + here.environ["PATH"]
        here.environ["DENO_DIR"] = os.path.join(here.path, "deno")
        clone, port, other = here.repository("client"), free_port(), free_port()
        _write(here, clone, "first")
        ours, peer = here.bare("shop.git", clone), here.bare("peer.git", clone)
        here.provisioner(ours, "init", "--name", "shop")
        here.provisioner(ours, "app", "run", "--command", START, "--build", "true", "--idle", "1s")
        with _up(here, port):
            wait_until(lambda: _asked(port, "shop.localhost") == "first")

            def wake(_: int) -> float:
                wait_until(lambda: _state(here, ours) == "sleeping")
                began = time.perf_counter()
                body = _asked(port, "login.shop.localhost")
                took = time.perf_counter() - began
                if not body:
                    raise RuntimeError("the first request after the app slept was not answered")
                return took

            def push(turn: int) -> float:
                _write(here, clone, f"turn {turn}")
                began = time.perf_counter()
                with _running(here, ["git", "push", "--quiet", ours, "main:login"], clone, end=False):
                    wait_until(lambda: _asked(port, "login.shop.localhost") == f"turn {turn}")
                    return time.perf_counter() - began

            def by_hand(turn: int) -> float:
                began = time.perf_counter()
                here.git(clone, "push", "--quiet", peer, "main:login")
                place = os.path.join(here.path, f"hand-{turn}")
                os.mkdir(place)
                here.git(peer, f"--work-tree={place}", "checkout", "--force", "login", "--", ".")
                here.run(["sh", "-c", "true"], place)
                return time.perf_counter() - began + _answers(here, place, other)

            pushed, deployed = alternated(runs, push, by_hand)
            woken, started = alternated(runs, wake, lambda _: _answers(here, clone, other))
    return [
        _less("wake, less 100 ms, against a bare deno run", woken, started, WAKE_SECONDS),
        _less("push, less 300 ms, against the same by hand", pushed, deployed, PUSH_SECONDS),
    ]


def _less(name: str, ours: list[float], peer: list[float], allowed: float) -> Row:
    return compared(name, [each - allowed for each in ours], peer, 1)


def _write(here: World, clone: str, text: str) -> None:
    with open(os.path.join(clone, "main.ts"), "w") as file:
        file.write(APP.replace("TEXT", json.dumps(text)))
    here.git(clone, "add", ".")
    here.git(clone, "commit", "--quiet", f"--message={text}")


def _answers(here: World, place: str, port: int) -> float:
    """Seconds until an app that is started in this directory answers."""
    here.environ["DENO_SERVE_ADDRESS"] = f"tcp:127.0.0.1:{port}"
    began = time.perf_counter()
    with _running(here, START.split(), place):
        wait_until(lambda: _asked(port, "localhost") != "")
        return time.perf_counter() - began


def _asked(port: int, host: str) -> str:
    """What is answered; empty if nothing is, or not 200."""
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else ""
    return ""


def _state(here: World, repository: str) -> str:
    found = json.loads(here.provisioner(repository, "status", "--json"))
    return next(str(each["state"]) for each in found if each["branch"] == "login")


@contextmanager
def _up(here: World, port: int) -> Iterator[None]:
    with _running(here, [PROVISIONER, "up", "--port", "0", "--preview-port", str(port)], here.path):
        wait_until(lambda: os.path.exists(os.path.join(here.home, "daemon")))
        yield


@contextmanager
def _running(here: World, words: list[str], cwd: str, *, end: bool = True) -> Iterator[None]:
    process = subprocess.Popen(words, cwd=cwd, env=here.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        if end:
            process.terminate()
        process.wait(60)
