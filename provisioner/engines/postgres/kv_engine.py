"""The deno-kv engine on a server: databases as the postgres engine makes them, with the tables of Deno KV in each.

Apps never connect to them. The provisioner server does, as the database's role, so that it reaches that one database and no
other; the password is only for the server, and therefore stays when the tokens of apps are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import ShareId
from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import clone, databases, lifecycle, names, roles
from provisioner.engines.postgres.administration import administering, administering_in
from provisioner.engines.postgres.engine import Postgres
from provisioner.engines.postgres.lifecycle import name_of
from provisioner.engines.postgres.roles import Statement, statement
from provisioner.engines.postgres.session import Session, patiently
from provisioner.engines.protocol.engine import CopyResult, Inspection, Source
from provisioner.kv.stores.postgres import schema

_AHEAD = 1 << 20  # versions; more than are written while a replacement is built


class KeyTables:
    """See `provisioner.engines.postgres.schema_setup.SchemaSetup`."""

    limited = False

    def furnish(self, inside: Session, name: str, owner: str) -> None:
        become = statement("grant create on database {name} to {owner}; set role {owner}", name=name, owner=owner)
        made: Sequence[Statement] = [sql.SQL(each) for each in schema.STATEMENTS]
        roles.at_once(inside, [become, *made, sql.SQL("reset role")])

    def is_empty(self, instance: Instance, name: str) -> bool:
        with administering_in(instance, name) as inside:
            if inside.execute(schema.FIND).fetchone() == (None,):
                return databases.is_empty(instance, name)
            row = inside.execute(_WRITTEN).fetchone()
        return row is not None and not row[0]

    def password(self, instance: Instance, database: Database) -> str:
        return roles.password(instance, database, names.KV_GENERATION)


class DenoKvOnPostgres(Postgres):
    """See `provisioner.engines.protocol.engine.Engine`."""

    contents = KeyTables()
    first = "Deno.openKv() opens the databases of"
    has_keys = True
    dumps = None
    apart = "apps reach it through the provisioner server"
    anew = "Programs continue with the new data; their earlier commits are in that snapshot"

    def renew(self, instance: Instance, database: Database, shares: Sequence[ShareId]) -> None:
        """Apps do not log in, whether it is theirs or shared."""
        with administering(instance) as session:
            if databases.there(session, [name_of(names.LIVE, instance, database)]):
                roles.at_once(session, lifecycle.settled(self.contents, instance, session, database))

    def build(self, instance: Instance, database: Database, source: Source | None, *, with_queue: bool) -> CopyResult:
        """Versionstamps keep growing: a program may still hold one of the old data, to check a key by it."""
        beyond = self._version_of_live(instance, database) + _AHEAD
        if source is None:
            made = super().build(instance, database, None, with_queue=with_queue)
        else:
            made = super().copy_beside(instance, database, source)
        return self._freed(instance, database, made, with_queue=with_queue, beyond=beyond)

    def copy_beside(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        made = super().copy_beside(instance, database, source)
        return self._freed(instance, database, made, with_queue=False, beyond=0)

    def inspect(self, instance: Instance, database: Database) -> Inspection:
        found = super().inspect(instance, database)
        return Inspection(None, found.size)

    def _version_of_live(self, instance: Instance, database: Database) -> int:
        """0 where it cannot be read: a damaged database is among what people replace."""
        try:
            with administering_in(instance, name_of(names.LIVE, instance, database)) as inside:
                row = inside.execute("select deno_kv.last_version()").fetchone()
        except StorageFailed:
            return 0
        return int(row[0]) if row else 0

    def _freed(
        self, instance: Instance, database: Database, made: CopyResult, *, with_queue: bool, beyond: int
    ) -> CopyResult:
        """Remove everything but data from the copy: the writers of the source, and its listeners."""
        beside = name_of(names.BESIDE, instance, database)
        with administering_in(instance, beside) as inside, patiently(inside):
            row = inside.execute(_LAST_OF_A_DUMP if made.how == clone.BY_DUMP else _LAST).fetchone()
            version = int(row[0]) if row else 0
            inside.execute(_FREE)
            if not with_queue:
                inside.execute("truncate deno_kv.queue")
            inside.execute(_BEYOND, (beyond,))
        with administering(instance) as session:
            databases.wait_until_left(session, beside)
            return CopyResult(version, databases.size(session, beside), made.paused, made.how)


_WRITTEN = """
  select last_value > 0 or exists (select from deno_kv.kv) or exists (select from deno_kv.queue) from deno_kv.version
"""
_LAST = "select last_value from deno_kv.version"
# A dump has the entries of one moment, but the sequence of a later one.
_LAST_OF_A_DUMP = "select coalesce(max(version), 0) from deno_kv.kv"
_FREE = "truncate deno_kv.commits, deno_kv.listeners"
_BEYOND = "select setval('deno_kv.version', greatest(last_value, %s::bigint)) from deno_kv.version"
