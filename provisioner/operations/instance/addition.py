"""Adding instances, also the ones that a lost registry had."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

from provisioner.core.allowance import NO_CHANGE, AllowanceChange
from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation
from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.core.ids import InstanceId
from provisioner.core.model import Instance
from provisioner.core.owner import InstanceMark
from provisioner.engines.catalog import engine_for, engine_of
from provisioner.engines.protocol import instance_mark
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.home.found_databases import learn_aliases
from provisioner.operations.instance.names import (
    allowance_of,
    find,
    free_directory,
    must_be_alone,
    must_be_free,
    parse_name,
)
from provisioner.operations.proposal import ProgressReporter, Proposal, Warned
from provisioner.registry.store import Registry

DEFAULT_ENGINE = "deno-kv"


def add(
    registry: Registry, name: str, engine: str, where: StorageTarget, allowed: AllowanceChange = NO_CHANGE
) -> Proposal:
    """Add an instance at this location, by default in its own directory in the home."""
    slug = parse_name(name)
    must_be_free(registry, slug)
    location, url = engine_for(engine, where).locate(where, free_directory(registry, slug))
    must_be_alone(registry, location)

    made = Instance(
        *(
            InstanceId(str(uuid.uuid4())),
            slug,
            engine,
            location,
            now_ms(),
            url,
            where.require_quorum or 0,
            registry.home.path,
        )
    )
    made = replace(made, allowance=allowance_of(made, allowed))

    def do(_: ProgressReporter) -> Iterator[str]:
        registry.organization()
        added = _create(registry, made)
        yield f"Added instance {made.slug}. To assign it, run: provisioner assign {made.slug} APP"
        if not (check := engine_of(added).look(added)).well:
            yield Warned(f"{check.what}: {check.text}")

    return Proposal(do)


def with_engine(registry: Registry, engine: str, reporter: ProgressReporter) -> Instance:
    """The first instance with an engine; if there is none, a new one with the engine's name in the home directory."""
    for instance in registry.instances():
        if instance.engine == engine:
            return instance
    if engine == DEFAULT_ENGINE:
        return default(registry)
    for line in add(registry, engine, engine, StorageTarget()).do(reporter):
        if isinstance(line, Warned):
            reporter.say(line)
    return find(registry, engine)


def default(registry: Registry) -> Instance:
    """The first deno-kv instance; if there is none, a new one in the home directory."""
    for instance in registry.instances():
        if instance.engine == DEFAULT_ENGINE:
            return instance
    location = FileLocation(os.path.realpath(free_directory(registry, "default")))
    made = Instance(
        InstanceId(str(uuid.uuid4())), "default", DEFAULT_ENGINE, location, now_ms(), home=registry.home.path
    )
    return _create(registry, made)


def restore_default(registry: Registry) -> None:
    """Add the default instance to a registry that has lost it: databases are stored in its directory."""
    directory = free_directory(registry, "default")
    if not registry.instances() and instance_mark.read(directory) is not None:
        default(registry)


def lost(registry: Registry) -> list[tuple[str, InstanceMark]]:
    """Directories in the home with the mark of an instance that is missing from the registry."""
    known = {str(row[0]) for row in registry.rows("select id from instance")}
    try:
        there = sorted(os.listdir(registry.home.instances))
    except OSError:
        return []
    found = [(path := os.path.join(registry.home.instances, name), instance_mark.read(path)) for name in there]
    return [(path, mark) for path, mark in found if mark is not None and mark.id not in known]


def _create(registry: Registry, instance: Instance) -> Instance:
    """The instance, in the registry. Raises ProvisionerError."""
    slug = instance.slug
    try:
        engine_of(instance).prepare(instance)
    except StorageFailed as error:  # the instance does not exist yet, so the hint must not name it
        hint = error.hint.replace(f"provisioner instance test {slug}", "the same command again")
        hint = hint.replace(f"provisioner instance edit {slug}", "the same command again, with")
        raise StorageFailed(error.message, hint) from error
    known = _as_before(registry, instance)
    registry.add_instance(known)
    if known.id != instance.id:
        learn_aliases(registry, known)
    engine_of(known).mark(known, registry.home_id())
    return known


def _as_before(registry: Registry, instance: Instance) -> Instance:
    """The instance with the id that it had in a lost registry, because names on servers contain the id.

    Raises ProvisionerError if another home stores there.
    """
    mark = engine_of(instance).marked(instance, registry.home_id())
    if mark is None:
        return instance
    own = mark.home_id == registry.home_id() or registry.home.recorded(instance.location) != instance.location
    if not own:
        raise ProvisionerError(
            f"instance {mark.slug} of another home stores in {instance.location}",
            "Choose another directory; if that home is gone, remove instance.json there",
        )
    taken = registry.rows("select 1 from instance where id = ?", mark.id)
    return instance if taken or mark.engine != instance.engine else replace(instance, id=mark.id)
