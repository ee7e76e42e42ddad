"""Real PostgreSQL servers for tests: Debian's, or those of the embedded package, each in a directory of its own."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from support import IN_CI, free_port, until

_PR_SET_PDEATHSIG = 1

Row = tuple[Any, ...]
Settings = Mapping[str, str]
# Nothing that a test looks at depends on the disk, and syncing takes most of the time of a small server.
QUICK: Settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


# Programs of another version to run the tests with; see test_postgres_versions.py.
CHOSEN = os.environ.get("TESTED_POSTGRES")


def binaries() -> Path:
    """Where `initdb` and `postgres` are; the newest of Debian's."""
    if CHOSEN:
        return Path(CHOSEN)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        if IN_CI:
            pytest.fail("CI needs Debian's package postgresql")
        pytest.skip("there is no PostgreSQL server here (Debian: postgresql)")
    return found[-1].parent


def account() -> str | None:
    """The account that PostgreSQL runs as here: it refuses root."""
    return "postgres" if os.geteuid() == 0 else None


@dataclass(slots=True)
class PgServer:
    """A server on loopback, whose administrator has a password."""

    directory: Path
    binaries: Path
    settings: Settings
    port: int
    user: str = "admin"
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        name, secret = user or self.user, password or self.password
        return f"postgresql://{quote(name, '')}:{quote(secret, '')}@127.0.0.1:{self.port}/{quote(database, '')}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Row]:
        return psycopg.connect(self.url(database), autocommit=True)

    def create_closed(self, name: str) -> None:
        """A database that is closed to all but the administrator, as ours are: others share this server."""
        self.ask(f'create database "{name}"')
        self.ask(f'revoke connect on database "{name}" from public')

    def ask(self, statement: str, *arguments: object, database: str = "postgres") -> list[Row]:
        """The rows of one statement of the administrator's."""
        with closing(self.connect(database)) as connection:
            cursor = connection.execute(statement.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def make(self) -> None:
        """A new cluster of files."""
        secret = self.directory / "password"
        secret.write_text(self.password)
        if (name := account()) is not None:
            for path in (self.directory, secret):
                shutil.chown(path, name)
        options = ("--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256")
        names = (f"--pgdata={self.data}", f"--pwfile={secret}", f"--username={self.user}")
        command = [str(self.binaries / "initdb"), *names, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as(account()))

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def start(self) -> None:
        """Start it and wait until it answers; a port that somebody has taken meanwhile is replaced by another."""
        for _ in range(5):
            self._start()
            until(lambda: self.answers() or self._ended(), 60)
            if not self._ended():
                return
            self.port = free_port()
        pytest.fail(f"PostgreSQL did not start: {self.log.read_text()}")

    def _start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_the_tests,
                **_as(account()),
            )

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends the sessions and stops, SIGTERM waits for them, SIGQUIT is a crash that is recovered from."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def kill(self) -> None:
        """kill -9 of every process of it: each has a session of its own, so a group is not enough."""
        assert self.process is not None
        pid = self.process.pid
        self.process.send_signal(signal.SIGSTOP)  # it starts nobody meanwhile
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for one in (pid, *children):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.process.wait(60)
        until(lambda: not any(_runs(child) for child in children))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of an empty database, for as long as this lasts."""
        name = f"test_{secrets.token_hex(6)}"
        identifier = sql.Identifier(name)
        with closing(self.connect()) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
            try:
                yield name
            finally:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def _end_with_the_tests() -> None:
    """Also where those are killed; Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _as(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def _runs(pid: int) -> bool:
    """Whether there is such a process that has not ended; an orphan may wait for somebody to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def pg_running(settings: Settings = QUICK, binaries_at: Path | None = None) -> Iterator[PgServer]:
    """A server of its own, which is gone afterwards with all it held."""
    # Not in pytest's directory, which nobody but the user of the tests may enter.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        server = PgServer(Path(directory), binaries_at or binaries(), settings, free_port())
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
