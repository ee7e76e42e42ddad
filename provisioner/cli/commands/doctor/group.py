"""`provisioner doctor`: the problems on this machine, and how to fix each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import click

from provisioner.cli.commands.doctor.databases import not_assigned, unregistered
from provisioner.cli.commands.doctor.deep import deep as read_all
from provisioner.cli.commands.doctor.domains import certificates, custom_domains
from provisioner.cli.commands.doctor.processes import Finding, daemon_state, registry_lock, server_state
from provisioner.cli.commands.serve import up
from provisioner.cli.context import any_home, json_option, looks, print_json
from provisioner.cli.options import config_file
from provisioner.core.clock import now_ms
from provisioner.core.counts import counted, verb
from provisioner.core.errors import ProvisionerError, shortage
from provisioner.core.hosting import MOST_PROCESSES, AppState
from provisioner.core.model import App, ConnectMode, Status, deploy_status
from provisioner.core.naming import shown
from provisioner.daemon.worker import LONGEST_STAY_SECONDS, daemon_runs
from provisioner.engines.catalog import engine_of
from provisioner.engines.files.preflight import look as look_at
from provisioner.engines.postgres.embedded import cleanup as embedded_cleanup
from provisioner.engines.protocol.engine import HealthCheck
from provisioner.git import hooks
from provisioner.git.reflog import in_reftable, keeps_logs
from provisioner.git.refs import read_branches
from provisioner.git.worktree import find_checkout
from provisioner.operations import documents
from provisioner.operations.instance.moves_in_progress import moves_under_way
from provisioner.reconcile.apply.lost_data import lost, remedy
from provisioner.reconcile.changes.command_access import described
from provisioner.reconcile.controller import damaged, look
from provisioner.reconcile.plan.actions import UpdateTimeline
from provisioner.reconcile.repository_identity import wrong
from provisioner.registry import hosting
from provisioner.registry.home import replica
from provisioner.registry.store import Registry
from provisioner.system import inbox, pidfile
from provisioner.system.file_lock import held_by
from provisioner.system.home import Home
from provisioner.system.home_guard import must_be_home

FRESH_SECONDS = 60.0  # a younger wake-up is probably being worked on
_OLD_SECONDS = 60.0  # of a copy: tokens that were revoked since then still open databases here
_PATIENCE_SECONDS = 2.0  # for a locked registry: the check then reports what holds the lock


@click.command()
@click.option("--deep", is_flag=True, help="Also read every database and snapshot to its end, which takes a while.")
@json_option
@looks
def doctor(deep: bool, as_json: bool) -> None:
    """Check everything and report problems, changing nothing.

    Exit code 1 if a check fails.
    """
    findings = list(_findings(any_home(), deep=deep))
    if as_json:
        print_json([{"check": name, "ok": ok, "message": text} for name, ok, text in findings])
    else:
        for name, ok, text in findings:
            click.echo(shown(f"{'ok  ' if ok else 'FAIL'} {name}: {text}"))
    wrong = sum(not ok for _, ok, _ in findings)
    if wrong:
        raise ProvisionerError(
            f"{wrong} of {counted(len(findings), 'check')} failed", "Each FAIL line above says what to do"
        )


def _findings(home: Home, *, deep: bool = False) -> Iterator[Finding]:
    yield _git()
    try:
        os.stat(home.path)
    except FileNotFoundError:
        yield "home", False, f"{home.path} does not exist. Run 'provisioner init' in a repository"
        return
    except OSError as error:
        yield "home", False, f"{home.path} cannot be used: {error.strerror}. Make this user its owner"
        return
    yield _private(home)
    try:
        must_be_home(home)
    except ProvisionerError as error:
        yield "home", False, str(error)
        return
    yield _looked_at("home", look_at(home.path))
    yield from config_file.finding(home.path, up)
    yield from _followed(home)
    try:
        registry = Registry.open(home, busy_seconds=_PATIENCE_SECONDS)
    except ProvisionerError as error:
        holders = held_by(home.registry, home.registry + "-shm") if "locked" in error.message else ""
        yield "registry", False, f"{error}{f'. It is held by {holders}: wait for it, or end it' if holders else ''}"
        yield daemon_state(home)
        yield server_state(home)
        return
    yield from _homeless()
    with registry:
        yield registry_lock(home)
        state = daemon_state(home)
        yield state
        yield server_state(home)
        daemon = state[1] and daemon_runs(home)
        if daemon:
            yield _wake_ups(home)
        instances = {instance.id: instance for app in registry.apps() for instance in registry.assigned(app.id)}
        for instance in instances.values():
            check = engine_of(instance).look(instance)
            yield _looked_at(f"instance {instance.slug}", check)
            if check.well and (limits := engine_of(instance).limits(instance)) is not None:
                yield f"limits {instance.slug}", True, f"each database may use {limits.text()}"
            if check.well:
                yield from unregistered(registry, instance)
        yield from not_assigned(registry, set(instances))
        for move in moves_under_way(registry):
            yield f"instance {move.instance.slug}", move.going_on, move.text
        for app in registry.apps():
            yield from _app(registry, app, home, daemon)
        yield from custom_domains(registry)
        yield from certificates(registry)
        if deep:
            yield from read_all(registry)


def _homeless() -> Iterator[Finding]:
    for elsewhere, directory in embedded_cleanup.homeless():
        text = f"{elsewhere} has the files of a server of {directory}, which no longer exists"
        repair = "If it stays away, end the process that data/postmaster.pid there names, and delete that directory"
        yield "embedded server", True, f"{text}. {repair}"


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return "git", False, "git is not installed. Install it"
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return "git", True, version


def _private(home: Home) -> Finding:
    for path, mode in ((home.path, 700), (home.key, 600)):
        if os.path.exists(path) and os.stat(path).st_mode & 0o077:
            return "private", False, f"{path} is open to others. Run: chmod {mode} {path}"
    return "private", True, home.path


def _looked_at(name: str, check: HealthCheck) -> Finding:
    return name, check.well, check.text


def _wake_ups(home: Home) -> Finding:
    """Whether the daemon handles wake-ups from hooks. Without a daemon they may wait for the next worker."""
    waiting = [age for age in inbox.ages(home.inbox) if age > FRESH_SECONDS]
    if waiting:
        text = f"{len(waiting)} wake-ups have waited for up to {max(waiting):.0f} s"
        return "inbox", False, f"{text}, and the daemon does not handle them. Read its log, and restart it"
    return "inbox", True, "empty, or recently filled"


def _followed(home: Home) -> Iterator[Finding]:
    try:
        found = replica.followed(home)
    except ProvisionerError as error:
        yield "follows", False, str(error)
        return
    if found is None:
        return
    age = None if found.received_at is None else max(0, now_ms() - found.received_at) / 1000
    how = "received nothing yet" if age is None else f"received {age:.0f} s ago"
    text = f"{' '.join(found.command)}: {how}"
    if age is not None and age < _OLD_SECONDS:
        yield "follows", True, text
    else:
        yield (
            "follows",
            False,
            f"{text}. Run 'provisioner home follow -- {' '.join(found.command)}' to see why",
        )


def _app(registry: Registry, app: App, home: Home, daemon: bool) -> Iterator[Finding]:
    name = f"app {app.slug}"
    where = os.fsdecode(app.git_dir)
    if app.detached_from is not None:
        was = os.fsdecode(app.detached_from)
        text = f"this home is a copy, so it does not follow {was}"
        yield name, True, f"{text}. To give it a repository, run: provisioner app set {app.slug} --repository PATH"
        yield from _databases(registry, app)
        return
    if not os.path.lexists(os.path.join(app.git_dir, b"HEAD")):
        yield (
            name,
            False,
            f"there is no repository in {where}; its databases are kept. If it has moved, run 'provisioner app"
            f" set {app.slug} --repository NEW-PATH'; if its disk is not mounted, mount it; if it was deleted, run"
            f" 'provisioner app remove {app.slug}'",
        )
        return
    if problem := wrong(registry, app):
        yield name, False, str(problem)
        yield from _databases(registry, app)
        return
    try:
        branches = read_branches(app.git_dir)
        yield name, True, f"{counted(len(branches), 'branch')} in {where}"
        if app.max_branches and len(branches) - 1 > app.max_branches:
            beyond = len(branches) - 1 - app.max_branches
            many = f"{counted(beyond, 'branch')} {verb(beyond, 'has', 'have')} no databases"
            text = f"{many}: the app's limit of {counted(app.max_branches, 'branch')} is reached"
            raise_it = f"provisioner app set {app.slug} --max-branches {len(branches)}"
            yield f"{name} limit", False, f"{text}. Delete branches, or raise the limit: {raise_it}"
        yield _hooks(app, home, daemon)
        yield _watches(app, daemon)
        yield _renames(app)
        yield _behind(registry, app, home, daemon)
        yield from _unserved(registry, app, home)
        yield from _commands(registry, app)
    except ProvisionerError as error:
        yield name, False, str(error)
    yield from _databases(registry, app)


def _hooks(app: App, home: Home, daemon: bool) -> Finding:
    name = f"app {app.slug} hooks"
    checkout = find_checkout(app.git_dir)
    assert checkout is not None  # noqa: S101 - its refs have just been read
    try:
        found = hooks.status(checkout.common_dir, checkout.top, home.path)
    except OSError as error:
        if (short := shortage(error)) is not None:
            return name, False, str(short)
        where = f" ({os.fsdecode(error.filename)})" if error.filename is not None else ""
        return name, False, f"cannot be read: {error.strerror}{where}. Change the owner of that file"
    missing = [f"{hook.name} {hook.state}" for hook in found if hook.state is not hooks.HookState.INSTALLED]
    if not missing:
        return name, True, "installed"
    watched = " (the daemon watches the refs)" if daemon else ""
    return name, daemon, f"{', '.join(missing)}{watched}. Run: provisioner hooks install --app {app.slug}"


def _watches(app: App, daemon: bool) -> Finding:
    from provisioner.git.watch import why_unwatchable

    name = f"app {app.slug} events"
    if why := why_unwatchable(app.git_dir):
        return name, not daemon, f"{why}; a daemon polls every 2 s instead. Resolve this, then restart the daemon"
    return name, True, "can be watched"


def _renames(app: App) -> Finding:
    """How the data of a renamed branch follows it."""
    name = f"app {app.slug} renames"
    if in_reftable(app.git_dir):
        text = "known by the text of the reflogs, because a reftable has no files to link"
        return name, True, f"{text}. If it does not show which branch owns data, no branch gets it"
    if not keeps_logs(app.git_dir):
        text = "the repository keeps no reflogs, so a branch that is renamed in it starts without data"
        return name, True, f"{text}. To follow renames, run: git config core.logAllRefUpdates true"
    return name, True, "followed by links to the reflogs"


def _behind(registry: Registry, app: App, home: Home, daemon: bool) -> Finding:
    """Whether steps are due that no process is about to take."""
    name = f"app {app.slug} refs"
    due = [action for action in look(registry, app, now_ms()).actions if not isinstance(action, UpdateTimeline)]
    at_work = daemon or any(age <= FRESH_SECONDS for age in inbox.ages(home.inbox))
    if due and not at_work:
        many = f"{counted(len(due), 'step')} {verb(len(due), 'is', 'are')} due and nothing is running"
        text = f"{many} {verb(len(due), 'it', 'them')}. Run: provisioner reconcile --app {app.slug}"
        return name, False, f"{text}. 'provisioner reconcile --dry-run' lists them. Without a daemon, run it from cron"
    if not daemon and app.grace_ms > LONGEST_STAY_SECONDS * 1000:
        text = f"without a daemon, its grace period of {app.grace_ms // 1000} s ends only at the next event"
        return name, True, f"{text}: run 'provisioner reconcile --all' from cron"
    return name, True, "followed"


def _unserved(registry: Registry, app: App, home: Home) -> Iterator[Finding]:
    if ConnectMode.URL in registry.connect_modes(app.id).values() and pidfile.at_work(home.server) is None:
        text = "it connects by URL and no server is running, so its apps cannot start. Run 'provisioner serve'"
        yield f"app {app.slug} connection", False, f"{text}, or 'provisioner assign --connect auto INSTANCE {app.slug}'"


def _commands(registry: Registry, app: App) -> Iterator[Finding]:
    """The confinement of the app's commands; nothing if it has none."""
    runs = hosting.run_command(registry, app.id)
    if app.deploys or registry.scrubs(app.id) or runs is not None:
        well, text = described(app)
        if runs is not None and well:
            most = f"{documents.size_text(runs.memory_bytes)} of memory and {MOST_PROCESSES} processes"
            text += f"; each of its apps is limited to {most}, checked every second; CPU is not limited"
        yield f"app {app.slug} commands", well, text
    for state in hosting.all_hosted(registry, app.id) if runs is not None else ():
        if state.error and state.state is not AppState.STOPPED:
            name = shown(registry.timeline(state.timeline_id).name)
            yield (
                f"app {app.slug} {name}",
                False,
                f"its app is {state.state}: {state.error}. See: provisioner logs {name}",
            )


def _databases(registry: Registry, app: App) -> Iterator[Finding]:
    for document in documents.databases(registry, app):
        if document["error"]:
            text = f"{document['error']}. Resolve this, then run: provisioner database fix {document['name']}"
            yield f"app {app.slug} {document['timeline']}", False, text
    live = {database.timeline_id for database in registry.databases(app.id) if database.live}
    for timeline in registry.timelines(app.id):
        if timeline.id in live and deploy_status(app, timeline) is Status.ERROR:
            name = shown(timeline.name)
            text = f"{timeline.failure}. Push a fix, or run it again: provisioner database fix --app {app.slug}"
            yield f"app {app.slug} {name}", False, f"{text} {name}"
    for database in damaged(registry, app):
        what = engine_of(registry.storage_of(database)).kept_in
        text = f"its {what} {database.error}. Put it back where 'provisioner database show {database.name}' shows"
        text += f". {remedy(registry, database)}" if lost(registry, [database]) else ""
        yield f"app {app.slug} {database.name}", False, text
