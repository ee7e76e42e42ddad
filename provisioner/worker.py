"""What a hook has done where no daemon runs: reconcile, answer the pusher, and see grace periods through."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

from provisioner import inbox
from provisioner.clock import now_ms
from provisioner.config import Home
from provisioner.errors import ProvisionerError
from provisioner.lock import try_lock
from provisioner.model import App, Status, Timeline, timeline_status
from provisioner.naming import shown
from provisioner.reconcile.controller import reconcile
from provisioner.registry.store import Registry

SECOND_LOOK_SECONDS = 0.25  # `git branch -m` tells its hook of the deletion only, before the new name is there
LONGEST_STAY_SECONDS = 120.0


def work(job: str, home_path: str, app_id: str, branches: Sequence[bytes]) -> None:
    """Do what a hook has handed over: ``receive`` a push, or see to a ``checkout``."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # they speak of the repository that the hook runs in
    if job == "receive":
        receive(home_path, app_id, branches)
    else:
        checked_out(home_path, app_id)


def receive(home_path: str, app_id: str, branches: Sequence[bytes]) -> None:
    """Do the work of a push here and now, and tell the pusher."""
    home = Home(home_path)
    if not os.access(home.path, os.W_OK):
        from getpass import getuser

        raise ProvisionerError(
            f"the user {getuser()} may not write to {home.path}: this push is not provisioned",
            "Give that user the directory, or run 'provisioner watch' as its owner",
        )
    with Registry.open(home) as registry:
        app = registry.app(app_id)
        if app is None:
            return
        outcome = reconcile(registry, app, now_ms(), "post-receive")
        sys.stdout.write("\n".join(report(registry, app, branches)) + "\n")
        sys.stdout.flush()
    if outcome.next_at is not None:
        inbox.leave(home.inbox, app_id)
        detach(home)


def report(registry: Registry, app: App, branches: Sequence[bytes]) -> list[str]:
    """A line for each branch that was pushed: timeline, status, database name, and why it is not connected."""
    lines = []
    for branch in branches:
        found = registry.statuses(app.id, branch)
        if found:
            # a branch that was or becomes production has a second timeline by its name: what is live is its own
            found.sort(key=lambda row: row[0].production != (branch == app.production))
            lines.append(_line(app, found[0][0], [row[1:] for row in found if row[0].id == found[0][0].id]))
    return lines


def _line(app: App, timeline: Timeline, databases: list[tuple[Status | None, str, str | None]]) -> str:
    rows = [row for row in databases if row[0] is not Status.ARCHIVED] or databases
    known = [row[0] for row in rows if row[0] is not None]
    status = str(timeline_status(known)) if known else "no database assigned"
    if timeline.gone_at is not None and status == Status.CONNECTED:
        status = f"archived in {max(0, timeline.gone_at + app.grace_ms - now_ms()) / 1000:.0f} s unless it comes back"
    words = " ".join([os.fsdecode(timeline.name), status, *(row[1] for row in rows if row[1])])
    why = "".join(f": {row[2]}" for row in rows if row[2])
    return shown(f"provisioner: {words}{why}")


def work_through(home: Home) -> None:
    """Act on every wake-up in the inbox, then on what falls due soon. The caller holds the worker's lock."""
    leave_at = time.monotonic() + LONGEST_STAY_SECONDS
    due: dict[str, float] = {}
    with Registry.open(home) as registry:
        while time.monotonic() < leave_at:
            for app_id in inbox.take(home.inbox):
                next_at = _look(registry, app_id)
                inbox.done(home.inbox, app_id)
                due[app_id] = min(time.monotonic() + SECOND_LOOK_SECONDS, next_at or leave_at)
            if not due:
                return
            app_id, when = min(due.items(), key=lambda item: item[1])
            if when >= leave_at or daemon_runs(home):
                return
            if not wait_until(when, lambda: inbox.pending(home.inbox)):
                next_at = _look(registry, app_id)
                del due[app_id]
                if next_at is not None:
                    due[app_id] = next_at


def _look(registry: Registry, app_id: str) -> float | None:
    """Reconcile one app; when (monotonic seconds) to look again."""
    app = registry.app(app_id)
    if app is None:
        return None
    outcome = reconcile(registry, app, now_ms(), "hook")
    return None if outcome.next_at is None else time.monotonic() + max(0.01, (outcome.next_at - now_ms()) / 1000)


def wait_until(when: float, interrupted: Callable[[], bool]) -> bool:
    """Wait until `when` (monotonic seconds). True where something interrupted it."""
    while (left := when - time.monotonic()) > 0:
        if interrupted():
            return True
        time.sleep(min(left, 0.05))
    return interrupted()


def daemon_runs(home: Home) -> bool:
    """Does a daemon hold this home? Its lock tells, which dies with it."""
    lock = try_lock(os.path.join(home.locks, "daemon.lock"))
    if lock is None:
        return True
    os.close(lock)
    return False


def detach(home: Home) -> None:
    """Start a worker that outlives this process."""
    handover = os.path.join(os.path.dirname(os.path.abspath(__file__)), "handover.py")
    arguments = [sys.executable, "-E", "-P", "-S", handover, "drain", home.path]
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions)
    os.close(null)


def checked_out(home_path: str, app_id: str) -> None:
    """Keep the env files that were asked for in step with the branch that was just checked out."""
    from provisioner.envfile import refresh

    home = Home(home_path)
    with Registry.open(home) as registry:
        app = registry.app(app_id)
        if app is not None:
            reconcile(registry, app, now_ms(), "post-checkout")
    for line in refresh(home, os.fsencode(os.getcwd()), dict(os.environ)):
        sys.stderr.write(f"provisioner: {shown(line)}\n")
