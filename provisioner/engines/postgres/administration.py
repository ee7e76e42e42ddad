"""Sessions in which the administrator changes a server: only while it keeps its required quorum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from provisioner.core.model import Instance
from provisioner.engines.postgres import session
from provisioner.engines.postgres.quorum import quorum_check
from provisioner.engines.postgres.session import Session, admin_url, connect, looking, refusals


@contextmanager
def administering(instance: Instance) -> Iterator[Session]:
    """A session in the server's own database, each statement in its own transaction. Raises StorageFailed.

    A server without its required quorum has none.
    """
    quorum_check.must_hold(instance)
    with looking(instance) as session, quorum_check.watched(instance, session):
        yield session


@contextmanager
def administering_in(instance: Instance, database: str) -> Iterator[Session]:
    """A session of the administrator's in one database. Raises StorageFailed."""
    quorum_check.must_hold(instance)
    with (
        closing(connect(instance, admin_url(instance), dbname=database)) as session,
        refusals(instance),
        quorum_check.watched(instance, session),
    ):
        yield session


def forget_refusals() -> None:
    """Ask again at once whether servers answer and keep their quorum."""
    session.forget_refusals()
    quorum_check.forget()
