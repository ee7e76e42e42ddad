"""What the tests do again and again: real git, the real command, and waiting for what it brings about."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import pytest

from provisioner.system.failpoints import POINTS

Done = subprocess.CompletedProcess[str]
Argument = str | bytes | Path

# Read before the tests' own environment hides it.
IN_CI = bool(os.environ.get("CI"))
NIGHTLY = "KV_NIGHTLY" in os.environ
DENO = str(Path(sys.executable).parent / "deno")


def run(
    cwd: Path,
    *command: Argument,
    stdin: str = "",
    check: bool = False,
    add: Mapping[str, str] | None = None,
) -> Done:
    """Run a command; `add` are variables to set besides the test's own."""
    words, environ = [os.fspath(part) for part in command], {**os.environ, **(add or {})}
    if commands.can_run(words, environ):
        code, out, err = commands.run(words, str(cwd), environ, stdin.encode("utf-8", "surrogateescape"))
        done = Done(words, code, _text(out), _text(err))
    else:
        done = subprocess.run(
            words,
            cwd=cwd,
            input=stdin,
            env=environ,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    assert not check or done.returncode == 0, f"{command} in {cwd}: {done.stdout}{done.stderr}"
    return done


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def git(cwd: Path, *args: Argument, check: bool = True, stdin: str = "", add: Mapping[str, str] | None = None) -> Done:
    return run(cwd, "git", *args, check=check, stdin=stdin, add=add)


def provisioner(cwd: Path, *args: Argument, add: Mapping[str, str] | None = None) -> Done:
    """The real command, as a user starts it."""
    return run(cwd, "provisioner", *args, add=add)


def ok(cwd: Path, *args: Argument, add: Mapping[str, str] | None = None) -> str:
    """What the real command prints; it has to succeed."""
    return run(cwd, "provisioner", *args, check=True, add=add).stdout


def status(cwd: Path) -> list[dict[str, Any]]:
    """What `provisioner status --json` says: of the app whose repository this is, else of all."""
    documents: list[dict[str, Any]] = json.loads(ok(cwd, "status", "--json"))
    return documents


def connected(cwd: Path) -> set[str]:
    """The branches whose timelines are connected."""
    return {document["branch"] for document in status(cwd) if document["status"] == "connected"}


def branches(cwd: Path) -> set[str]:
    """The branches there are, by git's word."""
    return set(git(cwd, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").stdout.splitlines())


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition; fail when it does not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    """A port of this machine that no program has now; another one may take it meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def resident(pid: int) -> int:
    """The bytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def repository(path: Path, *others: str) -> Path:
    """A repository with one commit on `main`, and `others` at the same commit."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q")
    commit(path, "first")
    add_branches(path, *others)
    return path


def add_branches(path: Path, *names: str) -> None:
    """Branches at HEAD, in one go."""
    head = git(path, "rev-parse", "HEAD").stdout.strip()
    git(path, "update-ref", "--stdin", stdin="".join(f"create refs/heads/{name} {head}\n" for name in names))


def shop(path: Path, *others: str, options: tuple[str, ...] = ("--grace", "0s")) -> Path:
    """A registered repository without hooks, so that nothing but the test's own commands reconciles."""
    repository(path, *others)
    ok(path, "init", "--no-hooks", "--name", "shop", *options)
    return path


def numbers(name: str) -> random.Random:
    """Random numbers: the same in every run, and others every night."""
    return random.Random(f"{name} {os.environ.get('PYTEST_XDIST_TESTRUNUID')}" if NIGHTLY else name)


def outside(tmp_path: Path) -> Path:
    """A directory for what commands of a test leave there, which their app has to allow them to write."""
    made = tmp_path / "outside"
    made.mkdir(exist_ok=True)
    return made


def points(*operations: str) -> list[str]:
    return [point for point in POINTS if point.partition(".")[0] in operations]


def killed(cwd: Path, point: str, *args: str) -> None:
    result = provisioner(cwd, *args, add={"PROVISIONER_FAULT": point})
    assert result.returncode == -signal.SIGKILL, result


def marked_shop(path: Path, *branches: str, options: tuple[str, ...] = ("--grace", "0s")) -> Path:
    """Each database holds the name of its timeline."""
    repo = shop(path, *branches, options=options)
    for row in rows(repo):
        put(row["path"], row["timeline"])
    return repo


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


def rows(cwd: Path) -> list[dict[str, Any]]:
    """Every database of the app, as `provisioner database list --json` has it."""
    listed: list[dict[str, Any]] = json.loads(ok(cwd, "database", "list", "--json"))
    return listed


def statuses(cwd: Path) -> dict[str, str]:
    """The status of each timeline's database; the last one listed where there are several."""
    return {row["timeline"]: row["status"] for row in rows(cwd)}


def database_of(cwd: Path, timeline: str) -> dict[str, Any]:
    (found,) = [row for row in rows(cwd) if row["timeline"] == timeline]
    return found


def put(file: Path | str, text: str, key: bytes = b"mark") -> None:
    """Write a row as an app would."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("insert into kv (k, v, v_encoding, version) values (?, ?, 2, 1)", (key, text.encode()))


def got(file: Path | str, key: bytes = b"mark") -> str:
    """What `put` has written there; empty where nothing was."""
    with closing(sqlite3.connect(file)) as connection:
        row = connection.execute("select v from kv where k = ?", (key,)).fetchone()
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
        return self.process.wait(60)


@contextmanager
def daemon(
    home: Path, *command: str, add: Mapping[str, str] | None = None, announced: str = "daemon"
) -> Iterator[Running]:
    """`provisioner watch` (or `command`), ready; it is stopped at the end if it still runs then.

    It is ready when its process id is in the home's file `announced`.
    """
    log = home.parent / f"{announced}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command or ("provisioner", "watch", "--log-format", "json"),
            env={**os.environ, "PROVISIONER_HOME": str(home), **(add or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: process.poll() is not None or _announced(home / announced) == process.pid)
        assert process.poll() is None, log.read_text()
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _announced(file: Path) -> int:
    try:
        return int(file.read_text().split(" ")[0])
    except FileNotFoundError:
        return 0


SETUPS = ("hooks", "watcher", "both", "reconcile")


@dataclass(frozen=True, slots=True)
class Setup:
    """Who notices that refs have changed: one of `SETUPS`."""

    name: str
    home: Path
    stack: ExitStack

    def begin(self, repository: Path) -> None:
        options = [] if self.name in ("hooks", "both") else ["--no-hooks"]
        ok(repository, "init", "--grace", "0s", *options)
        if self.name in ("watcher", "both"):
            self.stack.enter_context(daemon(self.home))
        assert connected(repository) == branches(repository)

    def act(self, repository: Path) -> None:
        """Only without hooks and daemon somebody has to ask."""
        if self.name == "reconcile":
            ok(repository, "reconcile")

    def settle(self, repository: Path, seconds: float = 60) -> None:
        """Wait until the connected timelines are the branches; only without hooks and daemon somebody has to ask."""
        self.act(repository)
        if self.name == "reconcile":
            assert connected(repository) == branches(repository)
        until(lambda: connected(repository) == branches(repository), seconds)


@contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A file system of its own, mounted with these options. Mounting is for root, which CI is."""
    if os.geteuid() != 0:
        if IN_CI:
            pytest.fail("CI has to run this as root")
        pytest.skip("mounting a small file system is for root")
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)
