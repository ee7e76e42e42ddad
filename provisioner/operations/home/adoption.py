"""Declaring whether a home was moved, copied, or restored: until then, nothing is done in it."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted, verb
from provisioner.core.errors import NotResolved, ProvisionerError, StorageFailed, UsageError, WrongHome
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.move import end_of
from provisioner.environment import env_files
from provisioner.git import hooks
from provisioner.git.worktree import find_checkout
from provisioner.hosting.deployments.hosted_timeline import log_directory
from provisioner.hosting.router.process import directory_of, remembered
from provisioner.operations.home import credentials
from provisioner.operations.proposal import Warned
from provisioner.reconcile.apply.ownership import settle_everywhere
from provisioner.registry import hosting
from provisioner.registry.home.copied import all_instances, inside, separate
from provisioner.registry.snapshots import snapshots
from provisioner.registry.store import Registry
from provisioner.system import identity, inbox, pidfile, secret_key
from provisioner.system.file_lock import locked, try_lock
from provisioner.system.home import Home, relative
from provisioner.system.home_state import HomeFinding, HomeState, explained, standing

_AT_WORK = ("daemon", "server", "worker")
_LINKS = "Copy the home again so that the copy has its own files"


def moved(home: Home) -> Iterator[str]:
    """Adopt the home as the one that it claims to be, on another path, disk, or machine. Raises ProvisionerError."""
    with _adopting(home) as found:
        if found.state is HomeState.COPIED:
            raise ProvisionerError(
                explained(home, found).partition(". ")[0],
                "If it is a copy, run: provisioner home adopt --copied. To use it instead, remove the other one first",
            )
        with Registry.of_another(home) as registry:
            _must_be_whole(registry)
            for instance in all_instances(registry):
                if inside(registry, instance.location):
                    engine_of(instance).settle_in(instance.location)
            _forget_processes(home)
            _write_identity(home, registry.home_id())
        if not os.path.exists(home.follows):
            yield from _take_up(home, _origin(found))
        yield f"Adopted {home.path} as moved"


def copied(home: Home) -> Iterator[str]:
    """Adopt the home as a new home, with the data of the one that it is a copy of. Raises ProvisionerError.

    If interrupted, it starts again: the identity is written last.
    """
    with _adopting(home) as found:
        _must_be_a_whole_copy(home)
        with Registry.of_another(home) as registry:
            _must_be_whole(registry)
            if os.path.exists(home.follows):  # it continues to receive that home's registry and key
                _write_identity(home, registry.home_id())
                yield f"Adopted {home.path} as a copy, which follows the same home"
                return
            home_id = str(uuid.uuid4())
            _forget_processes(home)
            for directory in (directory_of(home), log_directory(home)):
                shutil.rmtree(directory, ignore_errors=True)
            env_files.forget_all(home)
            _let_go(registry)
            domains = [each.name for each in hosting.all_domains(registry) if each.ended_at is None]
            left = separate(registry, home_id, now_ms())
            secret_key.rotate(home)
            for instance in all_instances(registry):
                if warning := engine_of(instance).separate(instance.location):
                    yield Warned(warning)
            _renew(registry)
            if (before := secret_key.unfinished_rotation(home)) is not None:
                secret_key.rotation_done(home, before)
            registry.record(now_ms(), "home.adopt", registry.who, detail=f"a copy of {_origin(found) or 'another'}")
            _write_identity(home, home_id)
            settle_everywhere(registry)
            _rest(registry)
            for each in left:
                many = (
                    f"{counted(each.databases, 'database')} of {each.instance} {verb(each.databases, 'stays', 'stay')}"
                )
                yield f"{many} with the original, in {each.location}"
            yield from (f"The custom domain {name} stays with the original" for name in domains)
            yield from (f"App {app.slug} has no repository here. {_attach(app)}" for app in registry.apps())
        yield f"Adopted {home.path} as a copy. Tokens and passwords of the original do not open it"


def _take_up(home: Home, old: str) -> Iterator[str]:
    """Update the paths that lead to the home, and reconcile every app."""
    with Registry.open(home) as registry:
        registry.record(now_ms(), "home.adopt", registry.who, detail=f"moved from {old or 'an unknown path'}")
        for app in registry.apps():
            if old not in ("", os.path.realpath(home.path)):
                yield from _follow_home(home, app, old)
            inbox.leave(home.inbox, app.id)


def _attach(app: App) -> str:
    return f"To give it one, run: provisioner app set {app.slug} --repository PATH"


@contextmanager
def _adopting(home: Home) -> Iterator[HomeFinding]:
    """The home's standing, locked against another adoption. Raises ProvisionerError if there is nothing to adopt."""
    if not os.path.exists(home.registry):
        raise NotResolved(f"no registry in {home.path}", "Set PROVISIONER_HOME to the home to adopt")
    os.makedirs(home.locks, exist_ok=True)
    with locked(os.path.join(home.locks, "adopt.lock"), "the home", 1.0):
        with suppress(WrongHome):  # a home of an older version only now records which it is
            Registry.open(home).close()
        found = standing(home)
        if found.state is HomeState.HERE:
            raise UsageError(f"the home {home.path} is where it was created", "There is nothing to adopt")
        yield found


def _origin(found: HomeFinding) -> str:
    return found.identity.path if found.identity else ""


def _must_be_whole(registry: Registry) -> None:
    """Check the registry: one that was copied while a process wrote to it may be damaged."""
    if (found := registry.rows("pragma quick_check(1)")[0][0]) != "ok":
        raise StorageFailed(
            f"the registry {registry.home.registry} is damaged: {found}",
            "Copy it again while nothing runs in the original",
        )


def _must_be_a_whole_copy(home: Home) -> None:
    """Refuse links, because their targets belong to the original as well as the copy. Raises ProvisionerError."""
    here = os.path.realpath(home.path)
    for directory, directories, names in os.walk(here):
        if directory == os.path.realpath(home.work):  # an adopted home starts without these files
            directories.clear()
            continue
        for name in (*directories, *names):
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and relative(os.path.realpath(path), here) == os.path.realpath(path):
                raise ProvisionerError(f"{path} leads out of the home, so the copy shares it with the original", _LINKS)
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                raise ProvisionerError(f"{path} is a hard link, so the copy may share it with the original", _LINKS)


def _forget_processes(home: Home) -> None:
    """Delete the records of processes that do not run here. Raises ProvisionerError if one does."""
    for name in _AT_WORK:
        path = os.path.join(home.path, name)
        lock = try_lock(os.path.join(home.locks, f"{name}.lock"))
        if lock is None:
            raise ProvisionerError(
                f"a {name} of {home.path} that was started before the move still runs", "Stop it first"
            )
        os.close(lock)
        pidfile.withdraw(path)
    for directory in (home.inbox, home.logins, home.work, *remembered(home)):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(home.path, "daemon.sock"))
    home.create()


def _let_go(registry: Registry) -> None:
    """Unlock files that were locked when the home was copied, because they were moving to a location of the original."""
    for row in registry.rows("select id from database where switching and not moved"):
        database = registry.database(DatabaseId(str(row[0])))
        assert database is not None  # noqa: S101 - rows of databases are never deleted
        storage = registry.storage_of(database)
        if inside(registry, storage.location):
            end_of(storage).unfence(storage, database, [each.id for each in snapshots(registry, database.id)])


def _renew(registry: Registry) -> None:
    """Set the passwords of embedded servers to those of the new key."""
    mine = [item for app in registry.apps() for item in registry.databases(app.id)]
    for instance in all_instances(registry):
        held: list[Database] = [item for item in mine if item.instance_id == instance.id]
        try:
            credentials.renew(registry, held)
        except ProvisionerError as error:
            _rest(registry)
            raise StorageFailed(error.message, "Resolve this, then run: provisioner home adopt --copied") from error


def _rest(registry: Registry) -> None:
    """Stop the embedded servers that were started for this: they start again on demand."""
    for instance in all_instances(registry):
        with suppress(StorageFailed):
            engine_of(instance).stop(instance.location)


def _write_identity(home: Home, home_id: str) -> None:
    try:
        identity.establish(home, home_id)
    except OSError as error:
        raise StorageFailed(f"{home.identity} cannot be written: {error.strerror}", "Make it writable") from error


def _follow_home(home: Home, app: App, old: str) -> Iterator[str]:
    """Point the hooks of each app to the home's new path."""
    try:
        checkout = find_checkout(app.git_dir) if os.path.isdir(app.git_dir) else None
        if checkout is not None and hooks.move_home(checkout.common_dir, checkout.top, app.id, old, home.path):
            yield f"{app.slug}: updated the hooks"
    except (ProvisionerError, OSError) as error:
        yield Warned(f"{app.slug}: its hooks still use {old}: {error}. Run: provisioner hooks install --app {app.slug}")
