"""Instances by their names, what they may be called, and how they are added."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

from provisioner import naming
from provisioner.clock import now_ms
from provisioner.engines.table import ENGINES
from provisioner.environment import RESERVED_INSTANCES, instance_prefix
from provisioner.errors import ProvisionerError, UsageError
from provisioner.model import App, Instance
from provisioner.operations.proposal import Proposal, Told
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


def add(registry: Registry, name: str, engine: str, directory: str | None) -> Proposal:
    """Add an instance, which stores in `directory`, or in one of its own in the home."""
    slug = parse_name(name)
    must_be_free(registry, slug)
    location = directory or free_directory(registry, slug)
    must_be_alone(registry, location)

    def do(_: Told) -> Iterator[str]:
        registry.organization()
        made = _create(registry, slug, engine, location)
        yield f"instance {made.slug}: assign it with 'provisioner assign {made.slug} APP'"

    return Proposal(do)


def default(registry: Registry) -> Instance:
    """The first deno-kv instance, made in the home directory where there is none."""
    for instance in registry.instances():
        if instance.engine == "deno-kv":
            return instance
    return _create(registry, "default", "deno-kv", free_directory(registry, "default"))


def _create(registry: Registry, slug: str, engine: str, location: str) -> Instance:
    instance = Instance(str(uuid.uuid4()), slug, engine, os.path.realpath(location), now_ms())
    ENGINES[engine].prepare(instance)
    registry.add_instance(instance)
    return instance
