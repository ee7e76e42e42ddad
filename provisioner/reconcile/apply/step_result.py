"""What the registry says of a database when a step on it has been done, or has failed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from provisioner.core.model import Database, Intent, Status
from provisioner.reconcile.plan import actions as planned
from provisioner.reconcile.plan.retry_delay import failure_of

Step = planned.Ensure | planned.Archive | planned.Purge


def result_of(step: Step, failure: str | None, now: int) -> tuple[Database, str]:
    """The row after a step, and the word for the audit log."""
    database = step.database
    if failure is not None:
        return failure_of(database, failure, now), "error"
    done = partial(replace, database, intent=None, error=None, attempts=0, retry_at=None)
    match step:
        case planned.Ensure():
            word = "recover" if database.intent is Intent.RECOVER else "connect"
            return done(
                status=Status.CONNECTED,
                connected_at=database.connected_at or now,
                archived_at=None,
                purge_at=None,
            ), word
        case planned.Archive():
            archived_at = database.archived_at or now
            return done(status=Status.ARCHIVED, archived_at=archived_at, purge_at=step.purge_at), "archive"
        case planned.Purge():
            return done(status=Status.PURGED), "purge"
