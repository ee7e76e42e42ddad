"""Databases that differ in some columns of the registry."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from typing import Any

from provisioner.core.model import Database, DatabaseState, ImpossibleState, Intent, Status, state_of

STATE = ("status", "intent", "error", "attempts", "retry_at", "hold", "archived_at", "purge_at")


def having(database: Database, **columns: Any) -> Database:
    """The database with these values in its columns. Raises ImpossibleState where they do not go together."""
    known = {field.name for field in fields(Database)}
    state = {name: getattr(database, name) for name in STATE} | {
        name: value for name, value in columns.items() if name in STATE
    }
    others = {name: value for name, value in columns.items() if name in known}
    assert len(others) + sum(name in STATE for name in columns) == len(columns), columns
    return replace(database, state=state_of(**state), **others)


def _possible() -> list[DatabaseState]:
    """Each combination of status and intent that there is: with an error, with an archive's times, and without a hold."""
    found = []
    for status, intent in product(Status, (None, *Intent)):
        with suppress(ImpossibleState):
            found.append(state_of(status, intent, "disk full", 1, None, None, 1, 2))
    return found


POSSIBLE = _possible()
