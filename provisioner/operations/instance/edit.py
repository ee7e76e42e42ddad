"""Changing an instance: its name, its limits, or the location that it was moved to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace

from provisioner.core.allowance import NO_CHANGE, AllowanceChange
from provisioner.core.clock import now_ms
from provisioner.core.connection import instance_prefix
from provisioner.core.counts import counted, verb
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, Database, Instance, Status
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.instance.names import allowance_of, must_be_alone, must_be_free, must_stay, parse_name
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry.instances import databases_of, save_instance
from provisioner.registry.queries import failed
from provisioner.registry.store import Registry


def edit(
    registry: Registry, instance: Instance, name: str | None, where: StorageTarget, allowed: AllowanceChange = NO_CHANGE
) -> Proposal:
    """Change an instance without moving data. None keeps a setting."""
    if name is None and where == StorageTarget() and allowed == NO_CHANGE:
        raise UsageError("there is nothing to change", "Use --name, an option for its new location, or a limit")
    must_stay(instance)
    changed = replace(instance, allowance=allowance_of(instance, allowed))
    if name is not None and name != instance.slug:
        must_be_free(registry, parse_name(name))
        changed = replace(changed, slug=name)
    if where != StorageTarget():
        location, url = engine_of(instance).locate(where, instance.location, instance)
        changed = replace(changed, location=location, url=url)
        if where.require_quorum is not None:
            changed = replace(changed, require_quorum=where.require_quorum)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        apps = [app for app in registry.apps() if any(item.id == instance.id for item in registry.assigned(app.id))]
        with ExitStack() as stack:
            for app in sorted(apps, key=lambda app: app.id):
                stack.enter_context(app_locked(registry, app))
            must_stay(registry.instance_of(instance.id))
            if (changed.location, changed.url) != (instance.location, instance.url):
                _must_be_there(registry, instance, changed)
            if replace(changed, slug=instance.slug) != instance:
                engine_of(changed).prepare(changed)
            save_instance(registry, changed, now_ms(), _what(instance, changed))
        _mend(registry, apps, reporter)
        yield f"instance {changed.slug}: {changed.location}"
        if changed.slug != instance.slug:
            yield f"Its variables now start with {instance_prefix(changed.slug)}_. Restart its programs"

    return Proposal(do)


def _what(old: Instance, new: Instance) -> str:
    name = f"{old.slug} -> {new.slug}" if old.slug != new.slug else new.slug
    name += f", quorum {new.require_quorum}" if old.require_quorum != new.require_quorum else ""
    name += "".join(
        f", {field} {'default' if value is None else value or 'none'}"
        for field, value in asdict(new.allowance).items()
        if value != getattr(old.allowance, field)
    )
    return name if old.location == new.location else f"{name} in {new.location}"


def _must_be_there(registry: Registry, old: Instance, new: Instance) -> None:
    """Accept a new location only if all data is there, and no program can use the old one."""
    must_be_alone(registry, new.location, but=old.id)
    kept = [item for item in databases_of(registry, old.id) if _has_data(item)]
    engine = engine_of(old)
    problems = engine.problems(new, kept)
    missing = [item for item in kept if item.id in problems]
    if missing:
        item, problem = missing[0], problems[missing[0].id]
        raise ProvisionerError(
            f"{len(missing)} of {counted(len(kept), 'database')} of {old.slug} {verb(len(missing), 'is', 'are')} not in"
            f" {new.location}: {item.name} {problem}",
            f"Move all of {old.location} there first",
        )
    if engine.same_place(old, new):
        return
    problems = engine.problems(old, kept)
    left = [item for item in kept if item.id not in problems]
    if left:
        raise ProvisionerError(
            f"{left[0].name} is still in {old.location} too, where programs may write to it",
            "Stop them, copy it once more, and rename or remove the old directory",
        )


def _has_data(database: Database) -> bool:
    return database.connected_at is not None and database.status is not Status.PURGED


def _mend(registry: Registry, apps: list[App], reporter: ProgressReporter) -> None:
    """Retry what failed at the old location."""
    for app in apps:
        if failed(registry, app.id):
            run(registry, app, "instance edit", reporter)
