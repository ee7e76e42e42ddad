"""Work on many databases at once, in which the failure of one is none of the others'."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from provisioner.core.errors import summary
from provisioner.core.model import Database
from provisioner.engines.protocol.engine import Failures

PATIENCE_SECONDS = 20.0
"""The time for finding out whose failure it is. A server that does not answer would take that long for each."""


def each_alone(
    work: Callable[[Sequence[Database]], Failures], databases: Sequence[Database], until: float = 0.0
) -> Failures:
    """What `work` says of these databases. If it raises, it is asked for half of them at a time, down to the one that it
    raises for, whose failure that is: every step of an engine may be asked for again, and finds itself done.
    """
    if not databases:
        return {}
    until = until or time.monotonic() + PATIENCE_SECONDS
    try:
        return work(databases)
    except Exception as error:
        if len(databases) == 1 or time.monotonic() > until:
            return dict.fromkeys((database.id for database in databases), summary(error))
    middle = len(databases) // 2
    return each_alone(work, databases[:middle], until) | each_alone(work, databases[middle:], until)


def problem_of(step: Callable[[], object]) -> str:
    """Why a step failed, whatever it raises; empty if it did not. For a step that concerns one timeline alone."""
    try:
        step()
    except Exception as error:
        return summary(error)
    return ""
