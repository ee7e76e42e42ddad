"""The registry of a home that is a copy of another one: what it must not have in common with the original.

Databases that are stored outside of the home (on a PostgreSQL server, in a directory elsewhere) are the original's. The copy
forgets them, and the instances that have nothing else: whatever it did with them, it would do to the original. The same goes for
deployments, whose ids are the names of processes and directories of this machine, and for custom domains.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from provisioner.core.hosting import AppState
from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import Database, Instance, InstanceMove, Status, detached
from provisioner.registry.moves import drop_left, keep_end, set_moved, set_switching
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """This many databases of an instance, at this location, stay with the original."""

    instance: str
    location: str
    databases: int


def inside(registry: Registry, location: str) -> bool:
    """Is it a directory in the home?"""
    return registry.home.recorded(location) != location


def all_instances(registry: Registry) -> list[Instance]:
    """Also those that were deleted."""
    return [
        registry.instance_of(InstanceId(str(row[0]))) for row in registry.rows("select id from instance order by rowid")
    ]


def separate(registry: Registry, home_id: str, now: int) -> list[LeftBehind]:
    """Make it that of another home, in one transaction. Raises StorageFailed."""
    left: list[LeftBehind] = []
    with registry.change():
        for instance in all_instances(registry):
            left += _separated(registry, instance)
        registry.write("update organization set id = ?", home_id)
        _give_new_ids(registry)
        for app in registry.apps(removed=True):
            registry.write("update app set git_dir = ? where id = ?", detached(app.git_dir), app.id)
        for table in ("hook_due", "operator_hook"):  # they start and end what runs on the original's databases
            registry.write(f"delete from {table}")
        _forget_deployments(registry)
        registry.write("delete from custom_domain")
        registry.write("update token set revoked_at = ? where revoked_at is null", now)
        registry.write(
            "update run set state = 'cut off', detail = ?, ended_at = ? where state = 'running'",
            *("it runs for the home that this is a copy of", now),
        )
        for each in left:
            registry.record(
                now, "home.left-behind", registry.who, detail=f"{each.databases} of {each.instance} in {each.location}"
            )
    return left


def _forget_deployments(registry: Registry) -> None:
    """Their processes, and files that another account owns, are found by the ids of deployments, and are the original's."""
    for table in ("deployment_step", "deployment"):
        registry.write(f"delete from {table}")
    registry.write(
        "update hosted_app set active = '', error = '', state = iif(state = ?1, ?1, ?2)",
        *(AppState.STOPPED, AppState.SLEEPING),
    )


def _give_new_ids(registry: Registry) -> None:
    """Make the apps others than the original's, which may be registered for the same repositories.

    What is written beside their databases names the original's until it is written again.
    """
    registry.write("pragma defer_foreign_keys = on")
    registry.write(
        "update database set owner_due = 1, owner_was = ("
        " select cast(coalesce(database.owner_was || x'0a', x'') || iif(production, 'production',"
        " iif(preview, 'preview/', 'git-branch/') || branch) as blob) from timeline where timeline.id = timeline_id)"
        " where status <> 'purged'"
    )
    tables = registry.rows(_NAMING_APPS)
    for app in registry.apps(removed=True):
        new = str(uuid.uuid4())
        registry.write("update app set id = ? where id = ?", new, app.id)
        for (table,) in tables:
            registry.write(f"update {table} set app_id = ? where app_id = ?", new, app.id)


def _separated(registry: Registry, instance: Instance) -> list[LeftBehind]:
    """Forget what of an instance is the original's; if it is being moved, that may be a part of it."""
    held = [
        found
        for row in registry.rows("select id from database where instance_id = ? order by rowid", instance.id)
        if (found := registry.database(DatabaseId(str(row[0])))) is not None
    ]
    ends = [instance.storage(moved=moved) for moved in ((False, True) if instance.moving else (False,))]
    own = [end for end in ends if inside(registry, end.location)]
    theirs = [item for item in held if not inside(registry, instance.storage(moved=item.moved).location)]
    left = [
        LeftBehind(instance.slug, end.location, sum(_is_in(item, instance, end) for item in theirs))
        for end in ends
        if end not in own
    ]
    _forget(registry, "database", [item.id for item in theirs])
    if not own:
        _forget(registry, "instance", [instance.id])
        return left
    if left:
        _end_move(registry, instance, own[0], [item for item in held if item not in theirs])
    if instance.left is not None and not inside(registry, instance.left.location):
        drop_left(registry, instance)
    return left


def _is_in(database: Database, instance: Instance, end: Instance) -> bool:
    return instance.storage(moved=database.moved).location == end.location and database.status is not Status.PURGED


def _end_move(registry: Registry, instance: Instance, end: Instance, kept: list[Database]) -> None:
    """The instance stores at this end of its move from now on: the other end is the original's."""
    keep_end(registry, instance, InstanceMove(end.location, end.url, end.require_quorum))
    for item in kept:
        set_switching(registry, item, 0)
        set_moved(registry, item, moved=False)


_NAMING_APPS = """
  select tables.name from sqlite_schema as tables, pragma_table_info(tables.name) as columns
  where tables.type = 'table' and columns.name = 'app_id'
"""
_REFERENCES = """
  select tables.name, keys."from", exists (select 1 from pragma_table_info(tables.name) where name = 'id')
  from sqlite_schema as tables, pragma_foreign_key_list(tables.name) as keys
  where tables.type = 'table' and keys."table" = ?
"""


def _forget(registry: Registry, table: str, ids: list[str]) -> None:
    """Delete rows, with whatever refers to them."""
    for child, column, has_id in registry.rows(_REFERENCES, table):
        for each in ids:
            if has_id:
                found = registry.rows(f"select id from {child} where {column} = ?", each)
                _forget(registry, str(child), [str(row[0]) for row in found])
            registry.write(f"delete from {child} where {column} = ?", each)
    for each in ids:
        registry.write(f"delete from {table} where id = ?", each)
