"""Databases that are stored but missing from the registry, or recorded there for another timeline."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from provisioner.cli.commands.doctor.processes import Finding
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Instance
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.stopped import ServerStopped
from provisioner.operations.home import found_databases
from provisioner.operations.instance.addition import lost
from provisioner.registry.store import Registry


def unregistered(registry: Registry, instance: Instance) -> Iterator[Finding]:
    """Databases on an instance whose location can be read."""
    try:
        found = found_databases.everything(registry, instance)
    except ServerStopped:
        return
    except ProvisionerError as error:
        yield f"instance {instance.slug}", False, str(error)
        return
    for each in found:
        state = (
            "differs from the registry, which may be older than the data" if each.known else "is not in the registry"
        )
        step = f"Run: provisioner database recover {each.id}"
        if each.owner is None:
            yield f"instance {instance.slug}", False, f"{each.stored.where} {state}. {step} --app APP --to TIMELINE"
            continue
        name = f"app {each.owner.app} {shown(each.owner.timeline)}"
        yield name, False, f"its database {each.id} ({each.stored.where}) {state}. {step}"


def not_assigned(registry: Registry, assigned: Collection[str]) -> Iterator[Finding]:
    """Databases on instances that no app is assigned to, and on instances that are missing from the registry."""
    for instance in registry.instances():
        if instance.id not in assigned and engine_of(instance).look(instance).well:
            yield from unregistered(registry, instance)
    for path, mark in lost(registry):
        text = f"it stores data in {path} and is not in the registry"
        yield (
            f"instance {mark.slug}",
            False,
            f"{text}. Run: provisioner instance add {mark.slug} --engine {mark.engine}",
        )
