"""A standby of a PostgreSQL server for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pg_server import QUICK, PgServer, account
from support import free_port, until


@contextmanager
def standby_of(primary: PgServer, name: str = "") -> Iterator[PgServer]:
    """One that follows it and serves reads; the primary knows it by that name."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        settings = {**QUICK, **primary.settings, **({"cluster_name": name} if name else {})}
        standby = PgServer(Path(directory), primary.binaries, settings, free_port(), password=primary.password)
        user = account()
        if user is not None:
            shutil.chown(directory, user)
        copying = (str(primary.binaries / "pg_basebackup"), f"--pgdata={standby.data}", "--write-recovery-conf")
        where = ("--host=127.0.0.1", f"--port={primary.port}", f"--username={primary.user}")
        subprocess.run(
            [*copying, *where, "--checkpoint=fast", "--no-sync"],
            check=True,
            env={**os.environ, "PGPASSWORD": primary.password},
            cwd="/",
            user=user,
        )
        standby.start()
        try:
            yield standby
        finally:
            standby.stop(signal.SIGQUIT)  # nobody reads its files again


def caught_up(primary: PgServer, standby: PgServer) -> None:
    """Wait until the standby has all that the primary has."""
    ((position,),) = primary.ask("select pg_current_wal_lsn()::text")
    until(lambda: standby.ask("select pg_last_wal_replay_lsn() >= %s::pg_lsn", position) == [(True,)])


def promote(standby: PgServer) -> None:
    assert standby.ask("select pg_promote()") == [(True,)]


def both(one: PgServer, other: PgServer) -> str:
    """A URL of libpq's with two hosts."""
    return one.url().replace(f":{one.port}/", f":{one.port},127.0.0.1:{other.port}/")
