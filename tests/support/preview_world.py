"""A team's bare repository whose branches have apps with URLs: `provisioner up`, pushes, and requests through the router."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import IN_CI, Running, bare, commit, daemon, free_port, git, ok, repository

from provisioner.runs import landlock

# Counts its requests in its timeline's Deno KV database through the file, and says who it is.
SERVER = """
import http.server, json, os, sqlite3, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(2)
        if self.path == "/exit":
            os._exit(7)
        said = {"timeline": os.environ["DENO_TIMELINE"], "revision": os.environ["DENO_DEPLOYMENT_ID"], "text": TEXT}
        body = json.dumps(said | {"path": self.path, "url": os.environ["PROVISIONER_URL"], "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format, *args):
        print(self.path, flush=True)

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256

print("starting", TEXT, flush=True)
Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@dataclass(slots=True)
class PreviewWorld:
    """`clone` pushes to `bare`, which is the app ``shop``. The router listens on `port`."""

    home: Path
    clone: Path
    bare: Path
    port: int
    running: Running

    def push(self, branch: str, text: str | None = None, *, source: str = "", message: str = "") -> str:
        """Push a branch, with a server that says `text` if that is given: what the pusher reads."""
        git(self.clone, "switch", "-q", "-C", branch, *([source] if source else []))
        if text is not None:
            (self.clone / "server.py").write_text(source or f"TEXT = {text!r}\n{SERVER}")
        git(self.clone, "add", ".")
        git(self.clone, "commit", "-q", "--allow-empty", "-m", message or f"{text}")
        return git(self.clone, "push", "-q", "-f", "origin", branch).stderr

    def get(self, host: str, path: str = "/", seconds: float = 60, **headers: str) -> tuple[int, str]:
        """A request through the router: the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path, headers={"Host": f"{host}:{self.port}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def said(self, host: str, path: str = "/") -> dict[str, Any]:
        """What the app of a host says of itself."""
        status, body = self.get(host, path)
        assert status == 200, (status, body)
        found: dict[str, Any] = json.loads(body)
        return found

    def processes(self) -> list[int]:
        """The processes of servers of this world."""
        return [pid for pid in self.all_processes() if b"server.py" in _words(pid)]

    def supervisors(self) -> list[int]:
        """The processes that supervise servers of this world, which have no directory of theirs."""
        with closing(sqlite3.connect(self.home / "registry.db")) as registry:
            runs = {f"PROVISIONER_RUN={row[0]}".encode() for row in registry.execute("select id from deployment")}
        return [pid for pid in _pids() if runs & _variables(pid) and b"supervisor.py" in _words(pid)]

    def routers(self) -> list[int]:
        return [pid for pid in self.all_processes() if b"caddy" in _words(pid)]

    def all_processes(self) -> list[int]:
        """All that work in a directory of the home, or have it on their command line."""
        home = os.fsencode(self.home)
        return [pid for pid in _pids() if os.fsencode(_directory(pid)).startswith(home) or home in _words(pid)]


def must_confine() -> None:
    """Skip a test of what pushed code reaches if the kernel has no Landlock, which CI's has."""
    if not landlock.abi():
        assert not IN_CI, "CI needs a kernel with Landlock"
        pytest.skip("the kernel has no Landlock")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _variables(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


@contextmanager
def previews(path: Path, home: Path, *run: str, options: tuple[str, ...] = ()) -> Iterator[PreviewWorld]:
    """A world in which `provisioner up` runs, and the app is run as `run` says, by default with ``python3 server.py``."""
    clone = repository(path / "clone")
    (clone / "server.py").write_text(f"TEXT = 'first'\n{SERVER}")
    git(clone, "add", ".")
    commit(clone, "a server")
    served = bare(path / "shop.git", clone)
    git(clone, "remote", "add", "origin", served)
    ok(served, "init")
    ok(served, "app", "run", *(run or ("--command", "exec python3 server.py")))
    port = free_port()
    with up(home, port, *options) as running:
        yield PreviewWorld(home, clone, served, port, running)


@contextmanager
def up(home: Path, port: int, *options: str, add: Mapping[str, str] | None = None) -> Iterator[Running]:
    words = ("provisioner", "up", "--port", "0", "--preview-port", str(port), "--log-format", "json", *options)
    with daemon(home, *words, add=add, announced="daemon") as running:
        yield running
