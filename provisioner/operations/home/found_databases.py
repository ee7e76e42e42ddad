"""Recovering stored databases that are missing from the registry, or recorded there for another timeline."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted
from provisioner.core.errors import NotResolved, ProvisionerError, StorageFailed, UsageError
from provisioner.core.ids import AppId, DatabaseId
from provisioner.core.model import App, Instance, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION, shown
from provisioner.core.owner import InstanceMark, Owner
from provisioner.git.repository_id import app_ids
from provisioner.operations.proposal import ProgressReporter, Proposal, Warned
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.changes import found_databases as changes
from provisioner.reconcile.changes.found_databases import Found, Withheld
from provisioner.reconcile.controller import reconcile
from provisioner.reconcile.found_owners import must_have_owner, present_owners
from provisioner.registry.home import owners
from provisioner.registry.queries import SHORTEST_ID
from provisioner.registry.store import Registry

_ATTEMPTS: Final = 2  # a branch's timeline may have to lose the lineage of the one that had its name before


def everything(registry: Registry, instance: Instance) -> list[Found]:
    """All of them on an instance. Raises StorageFailed."""
    return [*changes.unregistered(registry, instance), *changes.disowned(registry, instance)]


def with_id(registry: Registry, text: str) -> Found | None:
    """The one whose id starts with this. Raises NotResolved if there are several, and StorageFailed."""
    if len(text) < SHORTEST_ID or not set(text) <= set("0123456789abcdef-"):
        return None
    found = [each for each in _unregistered(registry) if each.id.startswith(text)]
    known = [
        DatabaseId(str(row[0]))
        for row in registry.rows("select id from database where substr(id, 1, ?) = ?", len(text), text)
    ]
    for instance in registry.instances() if known else ():
        found += changes.disowned(registry, instance, known)
    if len(found) > 1:
        raise NotResolved(f"{counted(len(found), 'database id')} start with {text!r}", "Enter more of the id")
    return found[0] if found else None


def of_timeline(registry: Registry, app: App, timeline: Timeline) -> list[Found]:
    """Those whose owner record names this timeline. Raises StorageFailed."""
    return [
        each
        for each in _all(registry)
        if each.owner is not None and each.owner.timeline == timeline.name and _is_of(registry, app, each.owner)
    ]


def take_back(registry: Registry, found: Sequence[Found], *, named: bool = False) -> Proposal:
    """Register them, and connect them if their branches exist. No timeline loses a database. `named`: a person chose the
    timeline, instead of the owner record."""
    pairs = [(changes.app_of(registry, each), each) for each in found]
    apps = list({app.id: app for app, _ in pairs}.values())

    def do(reporter: ProgressReporter) -> Iterator[str]:
        troubles: list[ProvisionerError] = []
        for app in apps:
            if not named:  # so that branches renamed in the meantime have their new names
                reconcile(registry, app, now_ms(), "database recover")
            wanted = [each for other, each in pairs if other.id == app.id]
            troubles += _taken_back(registry, app, wanted, reporter, named=named)
        for _, each in pairs:
            database = registry.database(each.id)
            if database is not None and database.timeline_id:
                yield f"{database.name} is {database.status}"
        yield from (Warned(error) for error in troubles[1:])
        if troubles:
            raise troubles[0]

    return Proposal(do)


def _taken_back(
    registry: Registry, app: App, wanted: Sequence[Found], reporter: ProgressReporter, *, named: bool
) -> list[ProvisionerError]:
    """Recover these of an app, and reconcile it. Returns what went wrong."""
    failed: dict[DatabaseId, ProvisionerError] = {}
    for _ in range(_ATTEMPTS):
        failed = _take_back(registry, app, wanted, named=named)
        run(registry, app, "database recover", reporter)
        wanted = [each for each in wanted if each.id in failed]
        if not wanted:
            break
    return list(failed.values())


def _take_back(
    registry: Registry, app: App, found: Sequence[Found], *, named: bool
) -> dict[DatabaseId, ProvisionerError]:
    """What went wrong with some of an app's: the others are recovered all the same."""
    troubles: dict[DatabaseId, ProvisionerError] = {}
    with app_locked(registry, app):
        there, silent = _of_app(registry, app)
        chosen = {each.id: each.owner for each in found if each.owner is not None}
        decisions = chosen if named else present_owners(registry, app, there, list(silent))
        unknown = {each.id for each in there}
        failures = {instance.id: error for instance, error in silent.items()}
        for each in found:
            if not named and each.id not in unknown:
                if each.instance.id in failures:
                    troubles[each.id] = failures[each.instance.id]
                continue  # or the registry has followed its branch in the meantime
            try:
                must_have_owner(decisions, each, app)
                changes.take_back(registry, app, each, decisions, now_ms())
            except ProvisionerError as error:
                troubles[each.id] = error
    return troubles


def _of_app(registry: Registry, app: App) -> tuple[list[Found], Mapping[Instance, StorageFailed]]:
    """All that say that they are of this app, and the instances that do not answer."""
    found = []
    silent: dict[Instance, StorageFailed] = {}
    for instance in registry.instances():
        try:
            found += everything(registry, instance)
        except StorageFailed as error:
            silent[instance] = error
    return [each for each in found if each.owner is not None and _is_of(registry, app, each.owner)], silent


def take_back_all(registry: Registry) -> Proposal:
    """All that can be found and whose apps are registered. Raises ProvisionerError if there are none."""
    found = [each for each in _all(registry) if each.owner is not None]
    if not found:
        raise ProvisionerError("every stored database is in the registry", "There is nothing to recover")
    newest = sorted(
        found, key=lambda each: each.stored.archived
    )  # live ones first, because an archived one does not replace them
    return take_back(registry, newest)


def named_for(registry: Registry, found: Found, app: App, name: str) -> Found:
    """One that does not say whose it is, or is withheld, for this timeline of the app. Raises UsageError."""
    if found.owner is not None and not _is_withheld(registry, found):
        raise UsageError(f"database {found.id} belongs to {shown(found.owner.timeline)}", "Omit --to")
    raw = os.fsencode(name)
    production = raw in (PRODUCTION, app.production)
    preview = raw.startswith(PREVIEW_PREFIX)
    branch = app.production if production else raw.removeprefix(PREVIEW_PREFIX if preview else BRANCH_PREFIX)
    instance = found.instance
    owner = Owner(
        instance=InstanceMark(registry.home_id(), instance.id, instance.slug, instance.engine),
        app_id=app.id,
        app=app.slug,
        repository=app.git_dir,
        branch=branch,
        production=production,
        preview=preview and not production,
        database_id=found.id,
        name="",
        created_at=now_ms(),
    )
    return replace(found, stored=replace(found.stored, owner=owner), recorded=found.owner)


def _is_withheld(registry: Registry, found: Found) -> bool:
    app = changes.app_of(registry, found)
    with app_locked(registry, app):
        there, silent = _of_app(registry, app)
        return isinstance(present_owners(registry, app, there, list(silent)).get(found.id), Withheld)


def app_id_of(registry: Registry, common_dir: bytes) -> AppId | None:
    """The id that this repository's app had before the registry was lost, according to the stored databases.

    The id in the repository counts; only without one, its path. A copy of the repository is another app. An instance that
    does not answer contributes nothing.
    """
    ids = app_ids(common_dir)
    registered = {app.id for app in registry.apps(removed=True)}
    for instance in registry.instances():
        try:
            found = [each.owner for each in changes.unregistered(registry, instance) if each.owner is not None]
        except StorageFailed:
            continue
        for owner in found:
            if owner.app_id not in registered and _says_so(owner, ids, common_dir):
                return owner.app_id
    return None


def _says_so(owner: Owner, ids: Sequence[str], common_dir: bytes) -> bool:
    if owner.repository == common_dir:
        return not ids or owner.app_id in ids
    return owner.app_id in ids and owner.app_id not in app_ids(owner.repository)


def learn_aliases(registry: Registry, instance: Instance) -> None:
    """A lost instance is back: the registered apps that have databases there. Raises StorageFailed."""
    apps = {app.git_dir: app.id for app in registry.apps()}
    known = {app.id for app in registry.apps(removed=True)}
    owners_there = [each.owner for each in changes.unregistered(registry, instance) if each.owner is not None]
    for old_id, repository in {(owner.app_id, owner.repository) for owner in owners_there}:
        if old_id not in known and repository in apps:
            owners.add_alias(registry, old_id, apps[repository])


def _is_of(registry: Registry, app: App, owner: Owner) -> bool:
    return owner.app_id in owners.app_ids(registry, app.id) or owner.repository == app.git_dir


def _all(registry: Registry) -> Iterator[Found]:
    for instance in registry.instances():
        yield from everything(registry, instance)


def _unregistered(registry: Registry) -> Iterator[Found]:
    for instance in registry.instances():
        yield from changes.unregistered(registry, instance)
