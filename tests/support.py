"""What the tests do again and again: real git, the real command, and waiting for what it brings about."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[str]


def run(
    cwd: Path,
    *command: str | Path,
    stdin: str = "",
    check: bool = False,
    add: Mapping[str, str] | None = None,
) -> Done:
    """Run a command; `add` are variables to set besides the test's own."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **(add or {})},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert not check or done.returncode == 0, f"{command} in {cwd}: {done.stdout}{done.stderr}"
    return done


def git(
    cwd: Path, *args: str | Path, check: bool = True, stdin: str = "", add: Mapping[str, str] | None = None
) -> Done:
    return run(cwd, "git", *args, check=check, stdin=stdin, add=add)


def provisioner(cwd: Path, *args: str | Path, check: bool = False, add: Mapping[str, str] | None = None) -> Done:
    """The real command, as a user starts it."""
    return run(cwd, "provisioner", *args, check=check, add=add)


def status(cwd: Path) -> list[dict[str, Any]]:
    """What `provisioner status --all --json` says."""
    documents: list[dict[str, Any]] = json.loads(provisioner(cwd, "status", "--all", "--json", check=True).stdout)
    return documents


def connected(cwd: Path) -> set[str]:
    """The branches whose timelines are connected."""
    return {document["branch"] for document in status(cwd) if document["status"] == "connected"}


def branches(cwd: Path) -> set[str]:
    """The branches there are, by git's word."""
    return set(git(cwd, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").stdout.splitlines())


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition; fail when it does not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def repository(path: Path, *others: str) -> Path:
    """A repository with one commit on `main`, and `others` at the same commit."""
    path.mkdir(parents=True)
    git(path, "init", "-q")
    commit(path, "first")
    for name in others:
        git(path, "branch", name)
    return path


def bare(path: Path, origin: Path) -> Path:
    """A bare repository with the branches of `origin`, which gets it as its remote `hub`."""
    git(origin, "clone", "-q", "--bare", origin, path)
    git(path, "remote", "remove", "origin")
    git(origin, "remote", "add", "hub", path)
    return path


def commit(cwd: Path, text: str) -> None:
    (cwd / "file").write_text(text)
    git(cwd, "add", "file")
    git(cwd, "commit", "-q", "-m", text)


def files(cwd: Path) -> dict[str, Path]:
    """The connected branches with the file of the deno-kv database that each is connected to."""
    return {
        row["branch"]: Path(database["path"])
        for row in status(cwd)
        for database in row["databases"]
        if row["status"] == "connected" and database["status"] == "connected"
    }


def put(file: Path, text: str) -> None:
    """Write a row as an app would."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("insert into kv (k, v, v_encoding, version) values (?, ?, 2, 1)", (b"mark", text.encode()))


def got(file: Path) -> str:
    """What `put` has written there; empty where nothing was."""
    with closing(sqlite3.connect(file)) as connection:
        row = connection.execute("select v from kv where k = ?", (b"mark",)).fetchone()
    return row[0].decode() if row else ""


def events(home: Path, action: str) -> list[str]:
    """The causes of the audit log's events of one kind."""
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        return [row[0] for row in connection.execute("select cause from event where action = ?", (action,))]


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that was started for a test."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def daemon(home: Path, *command: str, add: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`provisioner watch` (or `command`), ready; it is stopped at the end if it still runs then."""
    log = home.parent / "daemon.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command or ("provisioner", "watch", "--log-format", "json"),
            env={**os.environ, "PROVISIONER_HOME": str(home), **(add or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: process.poll() is not None or _announced(home) == process.pid)
        assert process.poll() is None, log.read_text()
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _announced(home: Path) -> int:
    try:
        return int((home / "daemon").read_text().split(" ")[0])
    except FileNotFoundError:
        return 0
