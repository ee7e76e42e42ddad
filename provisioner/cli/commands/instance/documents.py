"""Instances as --json prints them."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.cli.change import Describe, planned
from provisioner.cli.listing import ListLayout
from provisioner.cli.table import Column
from provisioner.core.clock import rfc3339
from provisioner.core.model import Instance
from provisioner.operations import documents as view
from provisioner.operations.documents import Document
from provisioner.operations.instance.health import standing
from provisioner.operations.instance.moves_in_progress import moves_under_way
from provisioner.registry.instances import Deleted, databases_of
from provisioner.registry.store import Registry

LAYOUT = ListLayout(
    (Column("INSTANCE"), Column("ENGINE"), Column("LOCATION", dropped=1), Column("APPS", dropped=2)),
    ("id",),
    lambda item: {
        "INSTANCE": item["instance"],
        "ENGINE": item["engine"],
        "LOCATION": item["location"],
        "APPS": ", ".join(item["apps"]) or "not assigned",
    },
    "No instances yet. To add one, run: provisioner instance add NAME",
)
DELETED_LAYOUT = ListLayout(
    (
        *(Column("INSTANCE"), Column("ENGINE", dropped=3), Column("LOCATION", dropped=1), Column("UNTIL", right=True)),
        *(Column("ID", dropped=4), Column("DELETED", right=True, dropped=2), Column("BACKUP", dropped=5)),
    ),
    ("id",),
    lambda item: {
        "INSTANCE": item["instance"],
        "ENGINE": item["engine"],
        "LOCATION": item["location"],
        "UNTIL": item["purge_at"],
        "ID": item["id"],
        "DELETED": item["deleted_at"],
        "BACKUP": item["backup"] or "",
    },
    "No deleted instances can be recovered.",
)


def listed(registry: Registry, instance: Instance) -> Document:
    """As 'instance list' has it."""
    return {
        "id": instance.id,
        "instance": instance.slug,
        "engine": instance.engine,
        "location": instance.location,
        "apps": [app for name, app in registry.assignments() if name == instance.slug],
        "created_at": rfc3339(instance.created_at),
    }


def whole(registry: Registry, instance: Instance) -> Document:
    """As 'instance show' has it."""
    document = {**listed(registry, instance), **standing(instance)}
    under_way = next((each for each in moves_under_way(registry) if each.instance.id == instance.id), None)
    document["moving"] = under_way and {
        "to": instance.move.location if instance.move is not None else None,
        "moved": under_way.moved,
        "total": under_way.total,
        "going_on": under_way.going_on,
        "text": f"{instance.slug} {under_way.text}",
    }
    mine = {database.id for database in databases_of(registry, instance.id)}
    document["databases"] = [
        database
        for app in registry.apps()
        for database in view.databases(registry, app)
        if database["id"] in mine and database["shared_from"] is None
    ]
    return document


def deleted(item: Deleted) -> Document:
    """As 'instance list --deleted' has it."""
    return {
        "id": item.instance.id,
        "instance": item.instance.slug,
        "engine": item.instance.engine,
        "location": item.instance.location,
        "deleted_at": rfc3339(item.deleted_at),
        "purge_at": rfc3339(item.purge_at),
        "backup": item.backup,
    }


def after(registry: Registry, instance: Instance) -> Describe:
    """The instance as 'instance show' has it, once a change of it is done."""

    def describe(_: Sequence[str]) -> Document:
        return whole(registry, registry.instance_of(instance.id))

    return describe


def of_each_database(registry: Registry, action: str, instance: Instance) -> list[Document]:
    """What a dry run of a change of an instance prints."""
    mine = databases_of(registry, instance.id)
    return [
        item
        for app in registry.apps(removed=True)
        for item in planned(
            registry, action, app, [each for each in registry.databases(app.id) if each in mine and each.live]
        )
    ]
