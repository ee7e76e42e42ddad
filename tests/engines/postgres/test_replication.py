"""What a real server with real standbys says of its replication."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer, pg_running
from pg_standby import standby_of
from psycopg import sql
from support import until

from provisioner.engines.postgres.quorum.quorum_status import QuorumStatus, Replication, quorum_status
from provisioner.engines.postgres.quorum.replication_status import acknowledged, replication

NAMES = ("node2", "node3")
SETTINGS = {"wal_level": "logical", "wal_receiver_status_interval": "1s"}
Node = tuple[PgServer, PgServer, PgServer]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Node]:
    """A primary and two standbys of it."""
    with pg_running(SETTINGS) as primary, ExitStack() as stack:
        standbys = [stack.enter_context(standby_of(primary, name)) for name in NAMES]
        yield (primary, *standbys)  # type: ignore[misc]
        primary.stop(signal.SIGQUIT)  # in order it would wait for standbys


@pytest.fixture(autouse=True)
def quorum(nodes: Node) -> Iterator[None]:
    """Before each test any one standby is waited for, and both are there."""
    for standby in nodes[1:]:
        if not standby.answers():
            standby.start()
    set_to(nodes[0], synchronous_standby_names="ANY 1 (node2,node3)", synchronous_commit=None)
    until(lambda: promised(nodes[0], 3).nodes == 2 and not promised(nodes[0]).warnings)
    yield
    set_to(nodes[0], synchronous_standby_names="", synchronous_commit=None)


def set_to(server: PgServer, **settings: str | None) -> None:
    """Change the server's configuration, and wait until it goes by that; None takes a change back."""
    with closing(server.connect()) as session:
        session.execute("set synchronous_commit to local")
        for name, value in settings.items():
            what = sql.SQL("reset {}") if value is None else sql.SQL("set {} to {}")
            session.execute(
                sql.SQL("alter system ")
                + what.format(*[sql.Identifier(name), sql.Literal(value)][: 1 if value is None else 2])
            )
        loaded = session.execute("select pg_conf_load_time()").fetchone()
        session.execute("select pg_reload_conf()")
        until(lambda: session.execute("select pg_conf_load_time()").fetchone() != loaded)


def asked(server: PgServer, url: str = "") -> Replication:
    with closing(psycopg.connect(url or server.url(), autocommit=True)) as session:
        return replication(session)


def promised(server: PgServer, wanted: int = 2) -> QuorumStatus:
    return quorum_status(asked(server), wanted)


@contextmanager
def role(server: PgServer, *options: str) -> Iterator[str]:
    """A role that may log in: its name, which is its password too."""
    name = f"pv_{secrets.token_hex(4)}"
    server.ask(f"create role {name} login password '{name}' {' '.join(options)}")
    yield name
    server.ask(f"drop role {name}")


def test_a_quorum_is_told_with_who_is_in_it(nodes: Node) -> None:
    found = asked(nodes[0])
    assert [(one.name, one.state, one.sync, one.address) for one in found.replicas] == [
        (name, "streaming", "quorum", "127.0.0.1") for name in NAMES
    ]
    assert quorum_status(found, 2).holds
    until(lambda: all(one.lag_bytes == 0 for one in asked(nodes[0]).replicas))


def test_by_priority_the_next_one_counts_too(nodes: Node) -> None:
    set_to(nodes[0], synchronous_standby_names="FIRST 1 (node2,node3)")
    until(lambda: [one.sync for one in asked(nodes[0]).replicas] == ["sync", "potential"])
    assert promised(nodes[0]).holds


def test_a_standby_says_that_it_is_one(nodes: Node) -> None:
    assert asked(nodes[1]).in_recovery
    assert "this node is a standby" in promised(nodes[1]).broken_text


@pytest.mark.parametrize("value", ["off", "local", "remote_write"])
def test_a_server_that_does_not_wait_says_so(nodes: Node, value: str) -> None:
    set_to(nodes[0], synchronous_commit=value)
    assert f"synchronous_commit is {value}" in promised(nodes[0]).broken_text


def test_what_the_session_that_asks_has_set_for_itself_is_not_what_others_have(nodes: Node) -> None:
    set_to(nodes[0], synchronous_commit="off")
    with closing(nodes[0].connect()) as session:
        session.execute("set synchronous_commit to on")
        assert not quorum_status(replication(session), 2).holds


def test_without_names_nothing_is_promised(nodes: Node) -> None:
    set_to(nodes[0], synchronous_standby_names="")
    text = promised(nodes[0]).broken_text
    assert "'ANY 1 (node2, node3)'" in text


def test_a_proposed_statement_is_one_that_mends(nodes: Node) -> None:
    set_to(nodes[0], synchronous_standby_names="")
    for statement in promised(nodes[0], 3).broken_text.partition("Run: ")[2].partition(". With")[0].split("; "):
        nodes[0].ask(statement)
    until(lambda: promised(nodes[0], 3).holds)


def test_standbys_that_stop_are_missed(nodes: Node) -> None:
    nodes[1].stop()
    until(lambda: promised(nodes[0]).warnings != ())
    assert promised(nodes[0]).holds
    assert promised(nodes[0]).warnings[0] == "node2 is not connected."
    nodes[2].stop()
    until(lambda: not promised(nodes[0]).holds)
    assert "node2 is not connected, node3 is not connected" in promised(nodes[0]).broken_text


def test_what_a_role_chose_is_told(nodes: Node) -> None:
    with role(nodes[0]) as name:
        mine = nodes[0].url(user=name, password=name)
        with closing(psycopg.connect(mine, autocommit=True)) as session:
            session.execute(f"alter role {name} set synchronous_commit to off".encode())
        found = promised(nodes[0])
        assert found.holds
        assert found.warnings == (
            f"{name} has chosen synchronous_commit = off for itself. To undo it: ALTER ROLE {name} RESET synchronous_commit.",
        )


def test_who_may_not_look_is_told_what_to_grant(nodes: Node) -> None:
    with role(nodes[0], "createdb", "createrole") as name:
        url = nodes[0].url(user=name, password=name)
        text = quorum_status(asked(nodes[0], url), 2).broken_text
        assert f"GRANT pg_monitor TO {name}" in text
        nodes[0].ask(f"grant pg_monitor to {name}")
        assert quorum_status(asked(nodes[0], url), 2).holds


def test_a_subscriber_does_not_stand_in_for_a_standby(nodes: Node) -> None:
    primary = nodes[0]
    primary.ask("create publication everything for all tables")
    with primary.database() as other:
        primary.ask("select pg_create_logical_replication_slot('reports', 'pgoutput')")
        options = "publication everything with (create_slot = false)"
        primary.ask(f"create subscription reports connection '{primary.url()}' {options}", database=other)
        try:
            set_to(primary, synchronous_standby_names="ANY 1 (*)")
            until(lambda: "reports is a logical subscriber" in promised(primary).broken_text)
            assert promised(primary).nodes == 1
        finally:
            set_to(primary, synchronous_standby_names="")
            primary.ask("drop subscription reports", database=other)
            primary.ask("drop publication everything")


def test_a_commit_tells_whether_a_standby_has_it(nodes: Node) -> None:
    with closing(nodes[0].connect()) as session:
        took = acknowledged(session, 20)
        assert took is not None
        assert took < 20
        for standby in nodes[1:]:
            standby.stop()
        assert acknowledged(session, 0.2) is None
        assert session.execute("select 1").fetchone() == (1,)  # the session is as good as before
        session.execute("set synchronous_commit to local")
        assert acknowledged(session, 20) is not None


def test_a_standby_that_hangs_is_found_by_a_commit_alone(nodes: Node, stopped: Callable[[PgServer], None]) -> None:
    set_to(nodes[0], synchronous_standby_names="ANY 1 (node2)")
    until(lambda: promised(nodes[0]).holds)
    stopped(nodes[1])
    with closing(nodes[0].connect()) as session:
        assert acknowledged(session, 0.2) is None
    assert promised(nodes[0]).holds


@pytest.fixture
def stopped() -> Iterator[Callable[[PgServer], None]]:
    """Has every process of a server stand still until the test is over."""
    pids: list[int] = []

    def stop(server: PgServer) -> None:
        assert server.process is not None
        pid = server.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, found)):
            os.kill(one, signal.SIGSTOP)
            pids.append(one)

    yield stop
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
