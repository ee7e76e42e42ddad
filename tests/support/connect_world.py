"""A running server for a home with a few databases, and what its clients need to reach them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import DENO, free_port, ok, resident, until

QUIET = {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}


@dataclass(slots=True)
class Server:
    """`provisioner serve` of one home, on one port through all its lives."""

    home: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home.parent / f"server-{self.port}.log"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        command = ["provisioner", "serve", "--host", "127.0.0.1", "--port", str(self.port), *self.options]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PROVISIONER_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        process = self.process
        until(lambda: process.poll() is not None or self._ready())
        assert process.poll() is None, self.log.read_text()

    def _ready(self) -> bool:
        """Apps are told of it; where they are told of another one beside it, it answers."""
        if _announced(self.home) == self.pid:
            return True
        if "--beside" not in self.options:
            return False
        try:
            with urllib.request.urlopen(f"{self.base}/readyz", timeout=2):
                return True
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it in this way; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def close(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def resident(self) -> int:
        """Bytes of memory."""
        return resident(self.pid)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _announced(home: Path) -> int:
    try:
        return int((home / "server").read_text().split(" ")[0])
    except FileNotFoundError:
        return 0


@contextmanager
def serving(home: Path, *options: str) -> Iterator[Server]:
    """A server that answers, stopped at the end."""
    server = Server(home, free_port(), options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True, slots=True)
class Access:
    """What `provisioner env` tells an app of a branch."""

    url: str
    token: str

    @property
    def variables(self) -> dict[str, str]:
        return {"DENO_KV_ACCESS_TOKEN": self.token, **QUIET}


def access(repository: Path, branch: str) -> Access:
    """Where the database of a branch is reached over the network, and what opens it. A server has to run."""
    told: dict[str, str] = json.loads(ok(repository, "env", "--branch", branch, "--format", "json"))
    return Access(told["PROVISIONER_KV_URL"], told["DENO_KV_ACCESS_TOKEN"])


def token(repository: Path, *options: str) -> str:
    """A new access token."""
    made: dict[str, Any] = json.loads(ok(repository, "token", "create", *options, "--json"))
    return str(made["token"])


def deno_command(script: Path, *arguments: str) -> list[str]:
    flags = ("--quiet", "--no-check", "--no-config", "--unstable-kv")
    return [DENO, "run", "-A", *flags, str(script), *arguments]


def deno(script: Path, *arguments: str, add: Mapping[str, str] | None = None, seconds: float = 240) -> str:
    """What a program prints to its end."""
    done = subprocess.run(
        deno_command(script, *arguments),
        env={**os.environ, **QUIET, **(add or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout
