"""Instances by their names, and the rules for names, directories, and limits."""

from __future__ import annotations

import os

from provisioner.core import naming
from provisioner.core.allowance import Allowance, AllowanceChange
from provisioner.core.connection import RESERVED_INSTANCES, Location, ServerLocation, instance_prefix
from provisioner.core.errors import NotResolved, ProvisionerError, UsageError
from provisioner.core.model import App, Instance
from provisioner.core.nearest import nearest
from provisioner.engines.catalog import engine_of
from provisioner.registry.instances import locations
from provisioner.registry.store import Registry


def find(registry: Registry, slug: str) -> Instance:
    if (instance := registry.instance_called(slug)) is not None:
        return instance
    near = nearest(slug, [instance.slug for instance in registry.instances()])
    raise NotResolved(f"no instance named {slug!r}", "List instances: provisioner instance list", candidates=near)


def successor(registry: Registry, app: App, leaving: Instance) -> str:
    """A sentence about another instance of an app that becomes its first once this one is gone; empty if none does."""
    mine = [item.slug for item in registry.assigned(app.id) if item.engine == leaving.engine]
    if len(mine) < 2 or mine[0] != leaving.slug:
        return ""
    return f"{engine_of(leaving).first} {mine[1]} from then on"


def parse_name(text: str) -> str:
    """`text` if an instance may have this name: its variables start with it."""
    slug = naming.parse_slug(text, "an instance")
    if slug in RESERVED_INSTANCES:
        raise UsageError(
            f"{slug!r} cannot be the name of an instance: variables that start with {instance_prefix(slug)}_ have another"
            " meaning",
            f"Try {slug + '-data'!r}",
        )
    if slug[0].isdigit():
        raise UsageError(
            f"{slug!r} cannot be the name of an instance: its variables start with it, and none may start with a digit",
            f"Try {'kv-' + slug!r}",
        )
    return slug


def must_be_free(registry: Registry, slug: str) -> None:
    if registry.instance_called(slug) is not None:
        raise ProvisionerError(f"instance {slug!r} already exists", "Choose another name")


def must_be_alone(registry: Registry, location: Location, *, but: str = "") -> None:
    """Raises ProvisionerError if another instance stores in the directory, or did so before it was deleted."""
    if isinstance(location, ServerLocation):
        return
    for other, slug, directory in locations(registry):
        if other != but and os.path.realpath(directory) == os.path.realpath(location):
            raise ProvisionerError(f"instance {slug!r} stores in {location}", "Choose another directory")


def must_stay(instance: Instance) -> None:
    """Raises ProvisionerError if it is being moved: that must end before anything else."""
    if instance.move is not None:
        raise ProvisionerError(
            f"instance {instance.slug!r} is being moved to {instance.move.location}",
            f"To continue, run: provisioner instance move {instance.slug}; to undo it, add --back",
        )


def free_directory(registry: Registry, slug: str) -> str:
    """A directory in the home that no instance has or had: a deleted instance may be recovered."""
    location = os.path.join(registry.home.instances, slug)
    taken = {os.path.realpath(directory) for _, _, directory in locations(registry)}
    number = 2
    found = location
    while os.path.realpath(found) in taken:
        found, number = f"{location}-{number}", number + 1
    return found


def allowance_of(instance: Instance, change: AllowanceChange) -> Allowance:
    """The instance's allowance, changed. Raises UsageError if its engine has no such limits."""
    said = {
        "--max-connections-per-database": change.connections,
        "--max-temp-per-connection": change.temp,
        "--max-statement-time": change.statement,
        "--trusted-extensions": change.trusted_extensions,
    }
    option = next((name for name, value in said.items() if value is not None), None)
    if option is not None and engine_of(instance).dumps is None:
        raise UsageError(
            f"{option} is for the engine postgres, and {instance.slug} has the engine {instance.engine}", "Omit it"
        )
    return change.of(instance.allowance)
