"""A standby of a PostgreSQL server for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connect_world import free_port
from pg_server import QUICK, PgServer, account
from support import until


@contextmanager
def standby_of(primary: PgServer) -> Iterator[PgServer]:
    """One that follows it and serves reads."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        standby = PgServer(Path(directory), primary.binaries, QUICK, free_port(), password=primary.password)
        name = account()
        if name is not None:
            shutil.chown(directory, name)
        copying = (str(primary.binaries / "pg_basebackup"), f"--pgdata={standby.data}", "--write-recovery-conf")
        where = ("--host=127.0.0.1", f"--port={primary.port}", f"--username={primary.user}")
        subprocess.run(
            [*copying, *where, "--checkpoint=fast", "--no-sync"],
            check=True,
            env={**os.environ, "PGPASSWORD": primary.password},
            cwd="/",
            user=name,
        )
        standby.start()
        try:
            yield standby
        finally:
            standby.stop()


def caught_up(primary: PgServer, standby: PgServer) -> None:
    """Wait until the standby has all that the primary has."""
    ((position,),) = primary.ask("select pg_current_wal_lsn()::text")
    until(lambda: standby.ask("select pg_last_wal_replay_lsn() >= %s::pg_lsn", position) == [(True,)])


def promote(standby: PgServer) -> None:
    assert standby.ask("select pg_promote()") == [(True,)]


def both(one: PgServer, other: PgServer) -> str:
    """A URL of libpq's with two hosts."""
    return one.url().replace(f":{one.port}/", f":{one.port},127.0.0.1:{other.port}/")
