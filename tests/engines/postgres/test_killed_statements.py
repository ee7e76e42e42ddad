"""A server completes the statement of a client that was killed: what comes after must not run past it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer
from pg_world import pg_shop
from support import until

from provisioner.core.ids import InstanceId
from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, owners, preflight
from provisioner.engines.postgres.administration import administering
from provisioner.registry.store import Registry
from provisioner.system.home import Home, home_directory

_NAME = f"pvn_00000000_{'0' * 32}"
_CREATING = f"""
import sys
from provisioner.engines.postgres import databases
from provisioner.engines.postgres.administration import administering
from provisioner.registry.store import Registry
from provisioner.system.home import Home
with Registry.open(Home(sys.argv[1])) as registry, administering(registry.instances()[0]) as session:
    databases.make_empty(registry.instances()[0], session, {_NAME!r}, session.info.user)
"""
_CREATORS = "select pid from pg_stat_activity where query like 'create database%' and state = 'active'"


@pytest.fixture
def instance(tmp_path: Path, pg: PgServer) -> Iterator[Instance]:
    pg_shop(tmp_path / "shop", pg)
    with Registry.open(Home(home_directory(os.environ))) as registry:
        (instance,) = registry.instances()
    yield instance
    pg.ask(f"drop database if exists {_NAME} with (force)")


@contextmanager
def killed_while_creating(pg: PgServer) -> Iterator[None]:
    """The client of a CREATE DATABASE is gone, and the server goes on with it at the end."""
    with closing(psycopg.connect(pg.url())) as other:
        other.execute("alter database template1 rename to renamed")  # what creates from it waits for that to end
        client = subprocess.Popen([sys.executable, "-c", _CREATING, os.environ["PROVISIONER_HOME"]])
        until(lambda: pg.ask(_CREATORS))
        client.kill()
        client.wait()
        assert pg.ask(_CREATORS)
        yield
    until(lambda: not pg.ask(_CREATORS))


def there(pg: PgServer) -> bool:
    return bool(pg.ask("select 1 from pg_database where datname = %s", _NAME))


def test_what_a_killed_client_was_creating_does_not_appear_after_it_was_dropped(
    instance: Instance, pg: PgServer
) -> None:
    with killed_while_creating(pg), administering(instance) as session:
        databases.drop(session, _NAME)
    assert not there(pg)


def test_what_a_killed_client_was_creating_lets_no_role_connect(instance: Instance, pg: PgServer) -> None:
    with killed_while_creating(pg):
        pass
    assert there(pg)
    assert preflight.look(instance).well


def test_owner_records_are_kept_where_the_creation_of_their_database_was_cut_off(
    instance: Instance, pg: PgServer
) -> None:
    pg.ask("create role clerk login password 'hush' createdb createrole")
    pg.ask("grant connect on database postgres to clerk")
    other = replace(instance, id=InstanceId(str(uuid.uuid4())), url=pg.url(user="clerk", password="hush"))
    apart = f"pvr_{other.id[:8]}"
    pg.ask(f"create database {apart} owner clerk allow_connections false")
    try:
        assert owners.claims(other, ["key"]) == {}
        assert pg.ask("select datallowconn from pg_database where datname = %s", apart) == [(True,)]
    finally:
        pg.ask(f"drop database {apart} with (force)")
        pg.ask("revoke connect on database postgres from clerk")
        pg.ask("drop role clerk")
