"""Servers that were asked for a quorum: nothing is done on one that does not keep it.

Without replication no change starts: its commit would be acknowledged by too few nodes, or wait indefinitely.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres.quorum.quorum_status import QuorumStatus, Replication, quorum_status
from provisioner.engines.postgres.quorum.replication_status import Session, acknowledged, replication
from provisioner.engines.postgres.session import looking
from provisioner.engines.protocol.engine import HealthCheck, ReplicationStatus, Standby
from provisioner.system.service_thread import ServiceThread

_KNOWN_SECONDS = 2.0  # of a thousand databases each asks
_PATIENCE = 5.0  # seconds that a test waits for standbys

_known: dict[tuple[str, int], tuple[float, str]] = {}


def must_hold(instance: Instance) -> None:
    """Raises StorageFailed if the instance requires a quorum that its server does not have now."""
    if not instance.require_quorum:
        return
    key = (instance.url, instance.require_quorum)
    until, problem = _known.get(key, (0.0, ""))
    if time.monotonic() >= until:
        problem = quorum_status(_replication(instance), instance.require_quorum).broken_text
        _known[key] = (time.monotonic() + _KNOWN_SECONDS, problem)
    if problem:
        raise StorageFailed(
            f"the server {instance.location} does not keep every write on {instance.require_quorum} nodes: {problem}"
        )


@contextmanager
def watched(instance: Instance, session: Session) -> Iterator[None]:
    """Let no statement of the block wait for standbys that are gone: raises StorageFailed at its end.

    A commit of that moment is on the primary, and perhaps nowhere else: as if its program had died there.
    """
    if not instance.require_quorum:
        yield
        return
    over, guard = threading.Event(), threading.Lock()
    broken: list[StorageFailed] = []

    def watch() -> None:
        while not over.wait(_KNOWN_SECONDS):
            try:
                must_hold(instance)
            except StorageFailed as error:
                with guard:
                    if not over.is_set():
                        broken.append(error)
                        with suppress(psycopg.Error):
                            session.cancel_safe(timeout=_PATIENCE)

    watching = ServiceThread("quorum", watch)
    watching.start()
    try:
        yield
    finally:
        watching.stop()
        with guard:
            over.set()
    if broken:
        raise broken[0]


def forget() -> None:
    """Ask again at once."""
    _known.clear()


def kept(instance: Instance) -> ReplicationStatus | None:
    """See `Engine.kept`."""
    found = _replication(instance)
    wanted = instance.require_quorum
    if not wanted and not found.replicas and not found.names:
        return None
    made = quorum_status(found, wanted or 2)
    problem = made.broken_text if wanted else ""
    return ReplicationStatus(wanted, made.nodes, problem, made.warnings, _standbys(found))


def check(instance: Instance, session: Session) -> HealthCheck:
    """Is the promise kept, and does a commit come back that waits for it? Raises psycopg.Error."""
    made = quorum_status(replication(session), instance.require_quorum)
    if not made.holds:
        return HealthCheck("quorum", False, made.broken_text)
    took = acknowledged(session, _PATIENCE)
    if took is None:
        text = f"no standby has acknowledged a write within {_PATIENCE:.0f} s: look at the network between the nodes"
        return HealthCheck("quorum", False, text)
    return HealthCheck("quorum", True, f"{_said(made)}; a commit took {took * 1000:.1f} ms")


def _replication(instance: Instance) -> Replication:
    with looking(instance) as session:
        return replication(session)


def _said(made: QuorumStatus) -> str:
    return " ".join(
        [f"an acknowledged write is stored on {made.nodes} nodes or more", *(f"({one})" for one in made.warnings)]
    )


def _standbys(found: Replication) -> tuple[Standby, ...]:
    return tuple(
        Standby(one.name, one.address, one.state, one.sync, one.lag_bytes, one.lag_seconds) for one in found.replicas
    )
