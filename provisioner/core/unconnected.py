"""The reasons why a program cannot be connected to a database now. Light: `provisioner exec` imports it."""

from __future__ import annotations

from provisioner.core.errors import NotResolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RECONCILE = "Run 'provisioner reconcile', then try again"


class NotYet(NotResolved):
    """Not connected, and reconciling could change that."""


class Doubtful(NotResolved):
    """A branch may own archived databases or may be a new one: it gets neither these nor new ones."""

    def __init__(self, branch: str, databases: Sequence[str]) -> None:
        names = ", ".join(databases)
        super().__init__(
            f"git does not show whether branch {branch!r} owns the archived data of {names}",
            f"If it does: provisioner database recover {databases[0] if databases else 'NAME'} --to {branch}."
            f" If it does not: provisioner database reset {branch}",
        )


def must_be_connected(
    timeline: str,
    instance: str,
    name: str,
    state: tuple[str | None, str | None, str | None, str | None],
    switching: int,
    doubtful: Sequence[str],
    *,
    untold: bool,
) -> None:
    """Raises `NotResolved` unless the database is connected. `state` are its status, error, hold and intent; `doubtful` are
    the names of databases that may be its branch's; `untold`: its server does not know yet what the branch logs in with."""
    status, error, hold, intent = state
    if switching == 2:
        raise NotYet(f"database {name!r} is being moved to another location", "Try again in a moment")
    if status == "connected" and intent is None and untold:
        why = f": {error}" if error else ""
        raise NotYet(f"the server of database {name!r} still has the old logins{why}", RECONCILE)
    if status == "connected" and intent is None:
        return
    if status is None:
        if doubtful:
            raise Doubtful(timeline.removeprefix("git-branch/"), doubtful)
        raise NotYet(f"timeline {timeline!r} has no database on instance {instance!r} yet", RECONCILE)
    if status == "archived" and hold == "archived":
        raise NotResolved(f"database {name!r} was archived by hand", f"Recover it: provisioner database recover {name}")
    if status == "archived":
        raise NotYet(
            f"database {name!r} is archived",
            f"To see why: provisioner database show {name}. To recover it: provisioner database recover {name}",
        )
    if status == "error":
        raise NotResolved(
            f"database {name!r} failed: {error}", f"Resolve this, then run: provisioner database fix {name}"
        )
    raise NotYet(f"database {name!r} is {status}, not connected", RECONCILE)
