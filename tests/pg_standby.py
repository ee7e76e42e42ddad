"""Standbys of a real PostgreSQL server."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pg_server import PgServer, account, as_account, free_port


@contextmanager
def pg_standby(primary: PgServer, name: str) -> Iterator[PgServer]:
    """A standby of it, called so; it may be stopped and started meanwhile."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        settings = {**primary.settings, "cluster_name": name}
        standby = PgServer(Path(directory), primary.binaries, settings, free_port(), primary.user, primary.password)
        if (owner := account()) is not None:
            subprocess.run(["chown", owner, directory], check=True)
        command = [str(primary.binaries / "pg_basebackup"), "--dbname", primary.url(), "--pgdata", str(standby.data)]
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        subprocess.run([*command, *options], check=True, **as_account(owner))
        standby.start()
        try:
            yield standby
        finally:
            standby.stop(signal.SIGQUIT)  # nobody reads its files again
