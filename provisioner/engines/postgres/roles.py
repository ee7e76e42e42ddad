"""Roles on a server: one for each database, which may do everything in that one and nothing anywhere else.

The administrator owns the databases, not the roles: who owns a database can open it to others, rename it and drop it. A
role owns the schema `public` and all that it makes, and may make schemas, extensions that are trusted, and temporary tables.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import psycopg
from psycopg import sql

from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import names
from provisioner.engines.postgres.session import Session
from provisioner.system import failpoints, secret_key
from provisioner.system.home import Home

_LIMITS = sql.SQL("nosuperuser nocreatedb nocreaterole noreplication nobypassrls inherit")

Statement = sql.SQL | sql.Composed


def named(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def at_once(session: Session, statements: Iterable[Statement]) -> None:
    """All of these in one transaction and one round trip."""
    session.execute(sql.SQL("; ").join(statements))


def statement(text: str, **parts: str) -> sql.Composed:
    """`text` with the names of databases and roles in their places."""
    return sql.SQL(text).format(**{word: named(name) for word, name in parts.items()})


def exists(session: Session, role: str) -> bool:
    return bool(session.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchall())


def make(session: Session, role: str) -> None:
    """Create a role that cannot log in yet. The administrator becomes a member, to give away what it owns."""
    if not exists(session, role):
        session.execute(sql.SQL("create role {} nologin {}").format(named(role), _LIMITS))
        failpoints.point("postgres.role")
    if not is_superuser(session):
        session.execute(statement("grant {role} to current_user", role=role))


def make_visitor(session: Session, role: str, of: str) -> str:
    """Create a role with the rights of the role `of`, and return its new password."""
    password = secrets.token_hex(32)
    make(session, role)
    at_once(session, [statement("grant {of} to {role}", of=of, role=role), opened(session, role, password)])
    return password


def drop(session: Session, role: str) -> None:
    session.execute(statement("drop role if exists {role}", role=role))


def retire(session: Session, role: str) -> None:
    """Drop the role of a database that is gone. If a copy of the database was made by hand, it owns objects there: then
    it stays without a login."""
    try:
        drop(session, role)
    except psycopg.errors.DependentObjectsStillExist:
        session.execute(closed(role))


def opened(session: Session, role: str, password: str) -> sql.Composed:
    """The statement after which one can log in as it. Only a hash of the password leaves this process."""
    hashed = session.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    limits = _LIMITS if is_superuser(session) else sql.SQL("")  # only a superuser may even state that it stays none
    return sql.SQL("alter role {} login {} password {}").format(named(role), limits, hashed)


def closed(role: str) -> sql.Composed:
    return statement("alter role {role} nologin", role=role)


def granted(database: str, role: str) -> sql.Composed:
    return statement("grant connect, create, temporary on database {database} to {role}", database=database, role=role)


def kept_out(database: str, role: str) -> sql.Composed:
    """The statement after which a role cannot connect, though it may work there under another's name."""
    return statement("revoke connect on database {database} from {role}", database=database, role=role)


def locked_up(database: str) -> sql.Composed:
    """The statement after which only who was granted it can connect."""
    return statement("revoke all on database {database} from public", database=database)


def connectable(database: str) -> sql.Composed:
    """The statement after which those who were granted it can connect."""
    return statement("alter database {database} allow_connections true", database=database)


def is_superuser(session: Session) -> bool:
    return session.info.parameter_status("is_superuser") == "on"


def password(instance: Instance, database: Database, generation: int, share: str = "") -> str:
    """What one logs in with, or a timeline that shares the database. Raises StorageFailed where the home's key cannot be
    read."""
    return secret_key.role_password(secret_key.secret(Home(instance.home)), database.id, generation, share)


def strangers(session: Session, instance: Instance, database: Database) -> list[str]:
    """The roles of other databases that the role of this one has made its members, which before PostgreSQL 16 it may."""
    own = f"_{instance.id[:8]}_{database.id.replace('-', '')}"
    values = {"role": names.live(instance.id, database.id), "ours": names.OURS, "own": own}
    return [str(row[0]) for row in session.execute(_STRANGERS, values).fetchall()]


def settled(session: Session, instance: Instance, database: Database, password: str) -> list[Statement]:
    """Statements that let the role of a live database in, with this password."""
    name = names.live(instance.id, database.id)
    make(session, name)
    return [
        connectable(name),
        locked_up(name),
        granted(name, name),
        opened(session, name, password),
    ]


def hand_over(session: Session, old: str, new: str, database: str) -> None:
    """In a session in a copy: give to `new` all that `old` owned or was granted in the original.

    In one transaction: the rest of `old` can only be dropped together with its objects elsewhere, which are given back.
    """
    if old == new or not exists(session, old):
        return
    with session.transaction():
        session.execute(statement("reassign owned by {old} to {new}", old=old, new=new))
        for policy, schema, table, members in session.execute(_POLICIES, {"old": old}).fetchall():
            kept = [
                sql.SQL("public") if member is None else named(new if member == old else member) for member in members
            ]
            session.execute(
                sql.SQL("alter policy {} on {}.{} to {}").format(
                    named(policy), named(schema), named(table), sql.SQL(", ").join(kept)
                )
            )
        if session.execute(_LEFT, {"old": old}).fetchall():
            elsewhere = session.execute(_GRANTED, {"old": old}).fetchall()
            session.execute(statement("drop owned by {old}", old=old))
            for (name,) in elsewhere:
                if name != database:
                    session.execute(granted(name, old))


_STRANGERS = """
  select rolname from pg_auth_members join pg_roles on pg_roles.oid = member
  where roleid = (select oid from pg_roles where rolname = %(role)s)
    and rolname ~ %(ours)s and strpos(rolname, %(own)s) = 0
"""
_POLICIES = """
  select polname, nspname, relname, array(select rolname from unnest(polroles) role left join pg_roles on oid = role)
  from pg_policy join pg_class on pg_class.oid = polrelid join pg_namespace on pg_namespace.oid = relnamespace
  where (select oid from pg_roles where rolname = %(old)s) = any(polroles)
"""
_LEFT = """
  select 1 from pg_shdepend where refclassid = 'pg_authid'::regclass
    and refobjid = (select oid from pg_roles where rolname = %(old)s)
    and dbid = (select oid from pg_database where datname = current_database())
"""
_GRANTED = """
  select datname from pg_database, aclexplode(datacl) entry where privilege_type = 'CONNECT'
    and entry.grantee = (select oid from pg_roles where rolname = %(old)s)
"""
