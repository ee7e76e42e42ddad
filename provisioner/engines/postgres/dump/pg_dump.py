"""Running pg_dump, which takes everything as it is at one moment, and waits for no lock that a program has."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres import programs as tools
from provisioner.engines.postgres.session import Session, variables_for_tools

LOCKED_SECONDS = 2.0


def run(
    instance: Instance,
    session: Session,
    name: str,
    arguments: Iterable[str],
    what: str,
    *,
    output: int | None = None,
    locked_seconds: float = LOCKED_SECONDS,
) -> None:
    """Dump the database `name`; `session` is one in another database. Raises StorageFailed, including if a table is locked for
    longer than `locked_seconds`."""
    programs = tools.programs(session.info.server_version // 10000)
    tag = f"provisioner {secrets.token_hex(8)}"
    tools.run(
        os.path.join(programs, "pg_dump"),
        (tools.LIVELY, "--no-password", *arguments),
        # The session stays open: an older pg_dump cannot refuse to send the password, but until then the port is the server's.
        variables_for_tools(instance, name) | {"PGAPPNAME": tag},
        what,
        output=output,
        meanwhile=_unless_locked_out(session, tag, what, locked_seconds),
    )


def _unless_locked_out(session: Session, tag: str, what: str, seconds: float) -> Callable[[], None]:
    since: dict[int, float] = {}

    def look() -> None:
        waiting = {row[0] for row in session.execute(_WAITING, (tag,)).fetchall()}
        for process in since.keys() - waiting:
            del since[process]
        now = time.monotonic()
        if any(now - since.setdefault(process, now) > seconds for process in waiting):
            session.execute(_END, (tag,))
            raise StorageFailed(
                f"{what} failed: a program has kept a table locked for longer than {seconds:g} s",
                "Try again when it has ended its transaction",
            )

    return look


_WAITING = "select pid from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
_END = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
