"""A temporary directory with its own HOME and PROVISIONER_HOME, and the processes that are started in it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PROVISIONER = os.path.join(os.path.dirname(sys.executable), "provisioner")
REFUSED = ("GIT_", "PROVISIONER_", "DENO_", "DIRENV_", "PYTHON")
DEADLINE_SECONDS = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class World:
    def __init__(self, path: str) -> None:
        self.path = path
        self.home = os.path.join(path, "provisioner-home")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(REFUSED)}
        self.environ = {
            **kept,
            "HOME": path,
            "PROVISIONER_HOME": self.home,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@example.org",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@example.org",
        }
        for key in [key for key in self.environ if key.startswith("XDG_")]:
            del self.environ[key]

    def run(self, command: Sequence[str], cwd: str, stdin: str = "") -> str:
        """What it prints on both streams; an error where it fails."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environ, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    def git(self, cwd: str, *words: str, stdin: str = "") -> str:
        return self.run(["git", *words], cwd, stdin)

    def provisioner(self, cwd: str, *words: str) -> str:
        return self.run([PROVISIONER, *words], cwd)

    def timed(self, command: Sequence[str], cwd: str) -> float:
        """Seconds from start to end; an error where it fails. Its output goes nowhere, so nobody has to read it."""
        started = time.perf_counter()
        code = subprocess.call(
            command, cwd=cwd, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        took = time.perf_counter() - started
        if code:
            raise RuntimeError(f"{' '.join(command)} ended with {code}")
        return took

    def repository(self, name: str) -> str:
        """A checkout with one commit on main."""
        path = os.path.join(self.path, name)
        self.git(self.path, "init", "--quiet", "--initial-branch=main", path)
        with open(os.path.join(path, "file"), "w") as file:
            file.write("text\n")
        self.git(path, "add", "file")
        self.git(path, "commit", "--quiet", "--message=first")
        return path

    def bare(self, name: str, source: str) -> str:
        """A bare repository that has main from `source`."""
        path = os.path.join(self.path, name)
        self.git(self.path, "init", "--quiet", "--bare", "--initial-branch=main", path)
        self.git(source, "push", "--quiet", path, "main")
        return path

    def branches(self, repository: str, count: int, prefix: str = "branch-") -> None:
        """Make so many branches at main's commit, loose."""
        commit = self.git(repository, "rev-parse", "main").strip()
        lines = "".join(f"create refs/heads/{prefix}{number:05} {commit}\n" for number in range(count))
        self.git(repository, "update-ref", "--stdin", stdin=lines)

    def hook(self, directory: str, name: str, command: str) -> None:
        """A hook that does nothing but `command`, in the hooks directory of a git directory."""
        path = os.path.join(directory, "hooks", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\n{command}\n")
        os.chmod(path, 0o755)

    def connected(self) -> int:
        """How many databases are connected."""
        if not os.path.exists(os.path.join(self.home, "registry.db")):
            return 0
        connection = sqlite3.connect(os.path.join(self.home, "registry.db"))
        try:
            count: int = connection.execute("select count(*) from database where status = 'connected'").fetchone()[0]
        finally:
            connection.close()
        return count

    def spares(self) -> int:
        """How many empty databases the default instance has ready."""
        directory = os.path.join(self.home, "instances", "default", "spare")
        return len(os.listdir(directory)) if os.path.isdir(directory) else 0

    def must_be_connected(self, count: int) -> None:
        if self.connected() != count:
            raise RuntimeError(f"{self.connected()} databases are connected, not {count}")

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """`provisioner watch` for the block."""
        process = subprocess.Popen([PROVISIONER, "watch"], cwd=self.path, env=self.environ, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(os.path.join(self.home, "daemon")))
            yield process
        finally:
            process.terminate()
            process.wait(30)


_started = 0


@contextmanager
def world() -> Iterator[World]:
    """A new world in the run's directory. It is left until the run is over: ext4 does not give out an inode again for
    a minute and looks at each of them meanwhile, so deleting here would slow down what is measured next.
    """
    global _started
    _started += 1
    path = os.path.join(tempfile.gettempdir(), f"world-{_started}")
    os.mkdir(path)
    os.sync()
    yield World(path)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for has not come")
        time.sleep(0.01)


def alternated(
    runs: int, *measured: Callable[[int], float], settle: float = 0.05, warm: int = 1
) -> tuple[list[float], ...]:
    """Seconds of each, taken in turns, so that what the machine does besides falls on all. First `warm` turns unseen.

    `settle` is a pause before each, for what the one before has left running.
    """
    taken: tuple[list[float], ...] = tuple([] for _ in measured)
    for turn in range(runs + warm):
        for seconds, measure in zip(taken, measured, strict=True):
            time.sleep(settle)
            took = measure(turn)
            if turn >= warm:
                seconds.append(took)
    return taken
