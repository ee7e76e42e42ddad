"""Moving Deno KV databases to and from a server; see names.py for their names during and after a move.

A database is fenced by another name: its role is closed, its sessions have ended, and no program with its old
name gets in, nor takes it for lost and creates another.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import SnapshotId
from provisioner.core.model import Database, Instance, Status
from provisioner.engines.postgres import databases, lifecycle, names, roles
from provisioner.engines.postgres.access import eviction
from provisioner.engines.postgres.administration import administering, administering_in
from provisioner.engines.postgres.databases import renamed
from provisioner.engines.postgres.kv_engine import KeyTables
from provisioner.engines.postgres.lifecycle import name_of
from provisioner.engines.postgres.session import Session, patiently
from provisioner.engines.protocol.engine import Source
from provisioner.engines.protocol.move import mark
from provisioner.kv.errors import KvError
from provisioner.kv.stores.postgres.bulk_copy import PostgresBulkTarget
from provisioner.system import failpoints

_CONTENTS = KeyTables()
_ARCHIVED = "archived"
LEAVE_SECONDS = 3.0
"""For provisioner servers to notice that a database is being moved, and to leave it: if the session of a commit is ended,
it is unknown whether it happened."""


class ServerMoveEnd:
    """See `provisioner.engines.protocol.move.MoveEnd`."""

    def alone(self, storage: Instance, other: Instance) -> str:
        """By a lock that is taken there and looked for here: one server may have many addresses."""
        number = secrets.randbits(62)
        with administering(other) as there, administering(storage) as here:
            there.execute("select pg_advisory_lock(%s)", (number,))
            try:
                words = (number >> 32, number & 0xFFFFFFFF)
                row = here.execute(_IS_LOCKED, words).fetchone()
            finally:
                there.execute("select pg_advisory_unlock(%s)", (number,))
        return f"{storage.location} and {other.location} are the same server" if row and row[0] else ""

    def make(self, storage: Instance, item: Source) -> None:
        beside, owner = _beside(storage, item), name_of(names.LIVE, storage, item.database)
        with administering(storage) as session:
            databases.drop(session, beside)
            for name in databases.there(session, _places(storage, item)):
                _aside(storage, session, item.database, name)
            roles.make(session, owner)
            databases.make_empty(storage, session, beside, owner, _CONTENTS.furnish)

    @contextmanager
    def copy(self, storage: Instance, item: Source) -> Iterator[PostgresBulkTarget]:
        with _inside(storage, _beside(storage, item)) as found:
            yield found

    def put_in_place(self, storage: Instance, item: Source) -> None:
        beside, there = _beside(storage, item), _place(storage, item)
        with administering(storage) as session:
            databases.wait_until_left(session, beside)
            if item.snapshot_id is None and item.database.status is not Status.ARCHIVED:
                lifecycle.move_in(_CONTENTS, storage, session, item.database)
            else:
                session.execute(renamed(beside, there))
        failpoints.point("move.renamed")

    def discard(self, storage: Instance, item: Source) -> None:
        with administering(storage) as session:
            databases.drop(session, _beside(storage, item))
            for name in databases.there(session, _places(storage, item)):
                _aside(storage, session, item.database, name)
            _retire(session, name_of(names.LIVE, storage, item.database))

    @contextmanager
    def original(self, storage: Instance, item: Source) -> Iterator[PostgresBulkTarget]:
        with administering(storage) as session:
            fenced = _fenced(storage, item)
            found = fenced if databases.there(session, [fenced]) else lifecycle.data_of(storage, session, item)
        with _inside(storage, found) as whole:
            yield whole

    def fence(self, storage: Instance, item: Source) -> None:
        """Closed to other programs first, then left by provisioner servers that see the move, then by all."""
        fenced, there = _fenced(storage, item), _place(storage, item)
        with administering(storage) as session:
            found = databases.there(session, [fenced, there])
            if there not in found and fenced in found:
                return
            if fenced in found:  # of a move that was over long ago
                _aside(storage, session, item.database, fenced)
            owner = name_of(names.LIVE, storage, item.database)
            if there == owner:
                session.execute(roles.closed(owner))
                failpoints.point("move.closed")
                databases.wait_until_left(session, there, LEAVE_SECONDS)
            _close(storage, session, there, fenced, owner)

    def unfence(self, storage: Instance, database: Database, snapshot_ids: Sequence[SnapshotId]) -> None:
        items = [Source(database, snapshot_id) for snapshot_id in (*snapshot_ids, None)]
        with administering(storage) as session:
            pairs = [(_fenced(storage, item), _place(storage, item)) for item in items]
            live = name_of(names.LIVE, storage, database)
            found = databases.there(session, [*(fenced for fenced, _ in pairs), live])
            for fenced, there in pairs:
                statements: list[roles.Statement] = [renamed(fenced, there)] if fenced in found else []
                if there == live and (statements or live in found):
                    statements += lifecycle.settled(_CONTENTS, storage, session, database)
                if statements:
                    roles.at_once(session, statements)

    def put_away(self, storage: Instance, database: Database) -> None:
        kinds = (names.MOVING, names.SNAPSHOT, names.LIVE, names.ARCHIVED)
        with administering(storage) as session:
            databases.drop(session, name_of(names.BESIDE, storage, database))
            for kind in kinds:
                for name in databases.named_like(session, name_of(kind, storage, database)):
                    _aside(storage, session, database, name)

    def left(self, storage: Instance) -> tuple[int, str]:
        with administering(storage) as session:
            found = _left(storage, session)
        return len(found), f"{storage.location}, in databases whose names start with {_start(storage)}"

    def forget(self, storage: Instance) -> None:
        with administering(storage) as session:
            for name in _left(storage, session):
                databases.drop(session, name)
                _retire(session, names.LIVE + "_" + "_".join(name.split("_")[1:3]))

    def tidy(self, storage: Instance) -> None:
        with administering(storage) as session:
            for kind in (names.BESIDE, names.BEGUN, names.SPARE):
                for name in databases.named_like(session, f"{kind}_{storage.id[:8]}_"):
                    databases.drop(session, name)
            found = session.execute(_ROLES, (f"_{storage.id[:8]}_",)).fetchall()
            for (role,) in found:
                _retire(session, role)


_KINDS = (names.LIVE, names.ARCHIVED, names.SNAPSHOT, names.BEGUN, names.BESIDE, names.MOVING, names.LEFT, names.SPARE)
_ROLES = "select rolname from pg_roles where starts_with(rolname, 'pv') and strpos(rolname, %s) in (3, 4)"
_IS_LOCKED = """
  select exists (select from pg_locks where locktype = 'advisory' and classid::bigint = %s and objid::bigint = %s)
"""


@contextmanager
def _inside(storage: Instance, name: str) -> Iterator[PostgresBulkTarget]:
    try:
        with (
            administering_in(storage, name) as session,
            patiently(session),
            administering_in(storage, name) as reading,
            patiently(reading),
        ):
            yield PostgresBulkTarget(session, reading, f"{storage.location}: {name}")
    except KvError as error:
        raise StorageFailed(str(error)) from error


def _place(storage: Instance, item: Source) -> str:
    if item.snapshot_id is not None:
        return names.name(names.SNAPSHOT, storage.id, item.database.id, item.snapshot_id)
    return name_of(names.ARCHIVED if item.database.status is Status.ARCHIVED else names.LIVE, storage, item.database)


def _places(storage: Instance, item: Source) -> list[str]:
    """The names at the item's target that may be taken."""
    if item.snapshot_id is not None:
        return [_place(storage, item), _fenced(storage, item)]
    kinds = (names.LIVE, names.ARCHIVED, names.MOVING)
    found = [name_of(kind, storage, item.database) for kind in kinds]
    return [*found, names.name(names.MOVING, storage.id, item.database.id, _ARCHIVED)]


def _beside(storage: Instance, item: Source) -> str:
    if item.snapshot_id is None:
        return name_of(names.BESIDE, storage, item.database)
    return names.name(names.BEGUN, storage.id, item.database.id, item.snapshot_id)


def _fenced(storage: Instance, item: Source) -> str:
    of = _ARCHIVED if item.snapshot_id is None and item.database.status is Status.ARCHIVED else item.snapshot_id
    return names.name(names.MOVING, storage.id, item.database.id, of)


def _close(storage: Instance, session: Session, name: str, closed: str, role: str) -> None:
    """Give a database another name, behind everything that was ever committed in it; only the administrator gets in."""
    is_live = name.startswith(f"{names.LIVE}_") and roles.exists(session, role)
    eviction.empty(storage, session, name, [roles.closed(role)] if is_live else [])
    again = roles.connectable(closed)
    eviction.insist(storage, session, name, [renamed(name, closed), again])


def _aside(storage: Instance, session: Session, database: Database, name: str) -> None:
    """Rename a database so that no program takes it for data."""
    left = names.name(names.LEFT, storage.id, database.id, mark())
    _close(storage, session, name, left, name_of(names.LIVE, storage, database))


def _retire(session: Session, role: str) -> None:
    """Drop the role of a database, or of a spare one, that is gone."""
    rest = role[role.index("_") :]
    if not any(databases.named_like(session, kind + rest) for kind in _KINDS):
        roles.retire(session, role)


def _start(storage: Instance) -> str:
    return f"{names.LEFT}_{storage.id[:8]}_"


def _left(storage: Instance, session: Session) -> list[str]:
    return databases.named_like(session, _start(storage))
