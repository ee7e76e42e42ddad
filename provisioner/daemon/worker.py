"""The worker, which hooks start if no daemon runs: it reconciles, answers the pusher, and waits for grace periods."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError, WrongRepository, summary
from provisioner.core.ids import AppId, DatabaseId
from provisioner.core.model import App, Status, Timeline, deploy_status, timeline_status
from provisioner.core.naming import shown
from provisioner.core.unconnected import Doubtful
from provisioner.daemon.hook_server import Push, parse
from provisioner.environment import env_files
from provisioner.git.refs import still_there
from provisioner.git.repository_id import found_elsewhere
from provisioner.git.worktree import common_dir_of
from provisioner.hosting.deployments.progress import deployed_branches, follow_deployments, is_settled
from provisioner.hosting.deployments.progress import report as deployment_report
from provisioner.jobs.follow_log import follow
from provisioner.jobs.progress import pending_step, pushed_and_pending, tell_steps
from provisioner.jobs.queue import WorkerPool, waiting
from provisioner.reconcile.apply.ownership import settle_everywhere
from provisioner.reconcile.controller import reconcile
from provisioner.registry import queries
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.apps_lock import apps_run
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home, forget_git

SECOND_LOOK_SECONDS = 0.25  # `git branch -m` reports the deletion to its hook before the new name exists
LONGEST_STAY_SECONDS = 120.0
FAILURE_SECONDS = 5.0


def work(job: str, home_path: str, app_id: AppId, pushed: Sequence[bytes]) -> None:
    """Do what a hook has handed over: ``receive`` a push, or handle a ``checkout``."""
    forget_git()
    if job == "receive":
        receive(home_path, app_id, [branch for _, branch in parse(pushed)])
    else:
        checked_out(home_path, app_id)


def receive(home_path: str, app_id: AppId, branches: Sequence[bytes]) -> None:
    """Do the work of a push in this process, and report to the pusher."""
    home = Home(home_path)
    if not os.access(home.path, os.W_OK):
        from getpass import getuser

        raise ProvisionerError(
            f"user {getuser()} cannot write to {home.path}, so this push is not provisioned",
            "Make that user the owner of the directory, or run 'provisioner watch' as its owner",
        )
    with Registry.open(home) as registry:
        app = registry.app(app_id)
        if app is None:
            return
        if problem := misplaced(app, os.getcwdb()):
            raise problem
        with _told_meanwhile(home, app_id, branches):
            outcome = reconcile(registry, app, now_ms(), "post-receive")
        since, pending = now_ms(), pushed_and_pending(registry, app, branches)
        if outcome.next_at is not None or waiting(registry, app):
            inbox.leave(home.inbox, app_id)
            detach(home)
        follow(registry, app, pending, since, _print)
        _print("\n".join(report(registry, app, branches)))
        follow_deployments(registry, app, branches, _print, runs=False)


def misplaced(app: App, place: bytes) -> WrongRepository | None:
    """The error for a push to a repository that claims to be the app's, if it is not the one that the app has."""
    common_dir = common_dir_of(place)
    if os.path.realpath(app.git_dir) == common_dir:
        return None
    return found_elsewhere(app.id, app.slug, app.git_dir, common_dir)


@contextmanager
def _told_meanwhile(home: Home, app_id: AppId, branches: Sequence[bytes]) -> Iterator[None]:
    """Report to the pusher at intervals what the block is doing."""
    over = threading.Event()
    teller = threading.Thread(target=tell_steps, args=(home, app_id, branches, _print, over), name="steps", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def follow_push(
    home: Home, app: App, branches: Sequence[bytes], timelines: Sequence[Timeline], since: int, push: Push
) -> None:
    """Report to a push the steps that it waits for, the output of its command, and then the outcome."""
    try:
        with Registry.open(home) as registry:
            follow(registry, app, timelines, since, push.say)
            for line in report(registry, app, branches):
                push.say(line)
            follow_deployments(registry, app, branches, push.say, runs=apps_run(home))
            lines: list[str] = []
    except OSError:  # it has disconnected; the command continues
        lines = []
    except Exception as error:  # any failure: the pusher gets an answer in every case
        lines = [shown(f"provisioner: {summary(error)}")]
    push.answer(lines)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def report(registry: Registry, app: App, branches: Sequence[bytes]) -> list[str]:
    """A line for each pushed branch: timeline, status, database name, and the reason if it is not connected."""
    lines = []
    for branch in branches:
        if rows := _rows(registry, app, branch):
            lines.append(_line(registry, app, rows))
        elif still_there(app.git_dir, [branch]) and (why := _beyond_limit(registry, app)):
            lines.append(shown(f"provisioner: git-branch/{os.fsdecode(branch)} has no database: {why}"))
    return lines


def _beyond_limit(registry: Registry, app: App) -> str:
    """The reason why new branches of an app get no databases; empty if they do."""
    if not app.max_branches or queries.branches_there(registry, app.id) < app.max_branches:
        return ""
    return (
        f"the limit of {counted(app.max_branches, 'branch')} of {app.slug} is reached. Delete branches, or raise it:"
        f" provisioner app set {app.slug} --max-branches N"
    )


def report_known(registry: Registry, app: App, pushed: Sequence[tuple[str, bytes]]) -> list[str] | None:
    """`report` if each branch is connected at the pushed commit; None if a look is needed first."""
    deployed = deployed_branches(registry, app, [branch for _, branch in pushed])
    if not all(is_settled(registry, each) for each in deployed):
        return None
    lines = [deployment_report(registry, each) for each in deployed]
    for revision, branch in reversed(pushed):  # the last one may not be connected yet
        rows = _rows(registry, app, branch)
        if not rows or any(
            (timeline.revision, timeline.gone_at, status) != (revision, None, Status.CONNECTED)
            or deploy_status(app, timeline) is Status.PROVISIONING
            for timeline, status, _, _ in rows
        ):
            return None
        lines.append(_line(registry, app, rows))
    return lines[::-1]


_Row = tuple[Timeline, Status | None, str, str | None]


def _rows(registry: Registry, app: App, branch: bytes) -> list[_Row]:
    """The databases of a branch's timeline: the live ones, else the archived ones; one row if it has none."""
    found = registry.statuses(app.id, branch)
    if len(found) > 1:
        # a branch that was or becomes production has a second timeline by its name: the live one is its own
        found.sort(key=lambda row: row[0].production != (branch == app.production))
        found = [row for row in found if row[0].id == found[0][0].id]
    return [row for row in found if row[1] is not Status.ARCHIVED] or found


def _line(registry: Registry, app: App, rows: Sequence[_Row]) -> str:
    timeline = rows[0][0]
    if timeline.doubt:
        return shown(f"provisioner: {os.fsdecode(timeline.name)} {Status.ERROR}: {_doubt(registry, timeline)}")
    known = [row[1] for row in rows if row[1] is not None]
    deployed = deploy_status(app, timeline)
    status = str(timeline_status([*known, deployed] if deployed else known)) if known else "no database assigned"
    if timeline.gone_at is not None and status == Status.CONNECTED:
        status = (
            f"archived in {max(0, timeline.gone_at + app.grace_ms - now_ms()) / 1000:.0f} s unless the branch returns"
        )
    words = " ".join([os.fsdecode(timeline.name), status, *(row[2] for row in rows if row[2])])
    reasons = [row[3] for row in rows if row[3]]
    if deployed is Status.ERROR and timeline.failure:
        reasons.append(f"{timeline.failure}. Push a fix, or run it again: provisioner database fix")
    elif step := pending_step(registry, app, timeline):
        reasons.append(f"{step}. It continues; see 'provisioner status'")
    why = "".join(f": {reason}" for reason in reasons)
    return shown(f"provisioner: {words}{why}")


def _doubt(registry: Registry, timeline: Timeline) -> Doubtful:
    found = [registry.database(DatabaseId(each)) for each in timeline.doubt.split()]
    return Doubtful(os.fsdecode(timeline.branch), [database.name for database in found if database is not None])


def work_through(home: Home) -> None:
    """Act on every wake-up in the inbox, then on steps that are due soon. The caller holds the worker's lock."""
    workers = WorkerPool(home, lambda app_id: inbox.leave(home.inbox, app_id), lambda *_: None)
    try:
        with Registry.open(home) as registry:
            _work_through(home, registry, workers)
            settle_everywhere(registry)
    finally:
        workers.close()


def _work_through(home: Home, registry: Registry, workers: WorkerPool) -> None:
    leave_at = time.monotonic() + LONGEST_STAY_SECONDS
    looks: dict[AppId, float] = {}
    failed: set[AppId] = set()

    def look(app_id: AppId) -> float | None:
        """When to look again; also at an app that fails, whose wake-up stays for a later worker."""
        try:
            next_at = _look(registry, app_id, workers)
        except Exception:  # any failure of one app: the others are looked after all the same
            failed.add(app_id)
            return time.monotonic() + FAILURE_SECONDS
        failed.discard(app_id)
        inbox.done(home.inbox, app_id)
        return next_at

    while time.monotonic() < leave_at or workers.busy:
        for app_id in map(AppId, inbox.take(home.inbox, failed=failed)):
            next_at = look(app_id)
            soon = FAILURE_SECONDS if app_id in failed else SECOND_LOOK_SECONDS
            looks[app_id] = min(time.monotonic() + soon, next_at or leave_at)
        app_id, when = min(looks.items(), key=lambda item: item[1], default=(AppId(""), leave_at))
        if workers.busy:  # a daemon that has started since leaves these jobs to this process, and does not take them
            when = min(when, time.monotonic() + SECOND_LOOK_SECONDS)
        elif not looks or when >= leave_at or daemon_runs(home):
            return
        if not wait_until(when, lambda: inbox.pending(home.inbox)) and looks.get(app_id, leave_at) <= time.monotonic():
            next_at = look(app_id)
            del looks[app_id]
            if next_at is not None:
                looks[app_id] = next_at


def _look(registry: Registry, app_id: AppId, workers: WorkerPool) -> float | None:
    """Reconcile one app; when (monotonic seconds) to look again."""
    app = registry.app(app_id)
    if app is None:
        return None
    try:
        outcome = reconcile(registry, app, now_ms(), "hook")
    finally:  # whatever failed, files of another branch must not stay
        env_files.refresh_app(registry.home, app.id, app.git_dir)
    again = workers.offer(waiting(registry, app))
    if outcome.next_at is not None:
        again = min(again or LONGEST_STAY_SECONDS, max(0.01, (outcome.next_at - now_ms()) / 1000))
    return None if again is None else time.monotonic() + again


def wait_until(when: float, interrupted: Callable[[], bool]) -> bool:
    """Wait until `when` (monotonic seconds). True if it was interrupted."""
    while (left := when - time.monotonic()) > 0:
        if interrupted():
            return True
        time.sleep(min(left, 0.05))
    return interrupted()


def daemon_runs(home: Home) -> bool:
    """Whether a daemon holds this home's lock, which dies with it."""
    path = os.path.join(home.locks, "daemon.lock")
    if not os.path.exists(path):  # then none ever ran; the file is not created by a mere check
        return False
    lock = try_lock(path)
    if lock is None:
        return True
    os.close(lock)
    return False


def detach(home: Home) -> None:
    """Start a worker that outlives this process."""
    handover = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "handover.py")
    arguments = [sys.executable, "-E", "-P", "-S", handover, "drain", home.path]
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions)
    os.close(null)


def checked_out(home_path: str, app_id: AppId) -> None:
    """Update the env files that are kept up to date for the branch that was just checked out."""
    home = Home(home_path)
    try:
        with Registry.open(home) as registry:
            app = registry.app(app_id)
            if app is not None:
                reconcile(registry, app, now_ms(), "post-checkout")
    finally:  # whatever failed, files of another branch must not stay
        for line in env_files.refresh(home, os.fsencode(os.getcwd()), dict(os.environ), every=True):
            sys.stderr.write(f"provisioner: {shown(line)}\n")
