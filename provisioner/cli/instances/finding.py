"""Instances by their names, and what they may be called."""

from __future__ import annotations

import os

from provisioner import naming
from provisioner.environment import RESERVED_INSTANCES, instance_prefix
from provisioner.errors import ProvisionerError, UsageError
from provisioner.model import App, Instance
from provisioner.registry.instances import locations
from provisioner.registry.store import Registry


def find(registry: Registry, slug: str) -> Instance:
    for instance in registry.instances():
        if instance.slug == slug:
            return instance
    raise ProvisionerError(f"there is no instance {slug!r}", "See 'provisioner instance list'")


def successor(registry: Registry, app: App, leaving: Instance) -> str:
    """Whose databases `Deno.openKv()` opens once the instance is away; empty where that does not change."""
    first, *others = [item.slug for item in registry.assigned(app.id)] or [""]
    return others[0] if others and first == leaving.slug else ""


def parse_name(text: str) -> str:
    """`text` where an instance may be called so: its variables begin with its name."""
    slug = naming.parse_slug(text, "an instance")
    if slug in RESERVED_INSTANCES:
        raise UsageError(
            f"{slug!r} cannot be the name of an instance: variables that begin with {instance_prefix(slug)}_ mean"
            " something else",
            f"Try {slug + '-data'!r}",
        )
    if slug[0].isdigit():
        raise UsageError(
            f"{slug!r} cannot be the name of an instance: its variables begin with it, and none may begin with a digit",
            f"Try {'kv-' + slug!r}",
        )
    return slug


def must_be_free(registry: Registry, slug: str) -> None:
    if any(other.slug == slug for other in registry.instances()):
        raise ProvisionerError(f"there is an instance {slug!r} already", "Choose another name")


def must_be_alone(registry: Registry, location: str, *, but: str = "") -> None:
    """Raises ProvisionerError where another instance stores in the directory, or did so before it was deleted."""
    for other, slug, directory in locations(registry):
        if other != but and os.path.realpath(directory) == os.path.realpath(location):
            raise ProvisionerError(f"instance {slug!r} stores in {location}", "Choose another directory")


def free_directory(registry: Registry, slug: str) -> str:
    """A directory in the home that no instance has, or had: what was deleted may come back."""
    location = os.path.join(registry.home.instances, slug)
    taken = {os.path.realpath(directory) for _, _, directory in locations(registry)}
    number = 2
    found = location
    while os.path.realpath(found) in taken:
        found, number = f"{location}-{number}", number + 1
    return found
