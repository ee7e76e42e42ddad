"""When to try again what failed."""

from __future__ import annotations

from provisioner.core.model import Database, StepFailure
from provisioner.system.backoff import after

FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 300_000


def failure_of(database: Database, why: str, now: int) -> Database:
    """The row of a database on which a step has just failed."""
    attempts = database.attempts + 1
    return database.failed(StepFailure(why, attempts, retry_at(attempts, now)))


def retry_at(attempts: int, now: int) -> int:
    """After this many failures."""
    return now + delay_ms(attempts)


def delay_ms(attempts: int) -> int:
    """How long to wait after this many failures."""
    return int(after(attempts - 1, FIRST_RETRY_MS, LONGEST_RETRY_MS))
