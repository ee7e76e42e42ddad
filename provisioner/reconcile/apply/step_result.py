"""What the registry says of a database when a step on it has been done, or has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from provisioner.core.model import Database, Intent
from provisioner.reconcile.plan import actions as planned
from provisioner.reconcile.plan.retry_delay import failure_of

Step = planned.Ensure | planned.Archive | planned.Purge
Progress = Callable[[str, int], None]
"""Called with the current step and the number of newly finished ones: 0 when the registry records the start."""


def result_of(step: Step, failure: str | None, now: int) -> tuple[Database, str]:
    """The row after a step, and the word for the audit log."""
    database = step.database
    if failure is not None:
        return failure_of(database, failure, now), "error"
    match step:
        case planned.Ensure():
            word = "recover" if database.intent is Intent.RECOVER else "connect"
            return database.connected(now), word
        case planned.Archive():
            return database.archived(now, step.purge_at), "archive"
        case planned.Purge():
            return database.purged(), "purge"
        case _:
            assert_never(step)
