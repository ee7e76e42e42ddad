"""An engine that fails whenever the database of one timeline is in what it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from provisioner.core.model import Database
from provisioner.engines import catalog
from provisioner.registry.store import Registry
from provisioner.system.home import Home, home_directory


class FaultyEngine:
    """As `whole`, but each of the `steps` raises what `fault` makes where it concerns a database whose name has `victim`."""

    def __init__(
        self, whole: Any, steps: frozenset[str], victim: str, fault: Callable[[], Exception], raised: list[str]
    ) -> None:
        self._whole, self._steps, self._victim, self._fault = whole, steps, victim, fault
        self._raised = raised

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._whole, name)
        if name not in self._steps:
            return found

        def step(*arguments: Any, **named: Any) -> Any:
            if any(self._concerned(each) for each in arguments):
                self._raised.append(name)
                raise self._fault()
            return found(*arguments, **named)

        return step

    def _concerned(self, argument: object) -> bool:
        if isinstance(argument, Database):
            return self._victim in argument.name
        if isinstance(argument, str):
            return argument in _ids_and_keys(self._victim)
        if hasattr(argument, "database_id"):
            return self._concerned(argument.database_id)
        return isinstance(argument, Iterable) and any(self._concerned(each) for each in argument)


def _ids_and_keys(victim: str) -> set[str]:
    from provisioner.core.owner import timeline_key

    with Registry.open(Home(home_directory(os.environ))) as registry:
        rows = registry.rows("select id from database where name like ?", f"%{victim}%")
        keys = {
            timeline_key(app.id, timeline.name)
            for app in registry.apps()
            for timeline in registry.timelines(app.id)
            if victim.encode() in timeline.branch
        }
    return {str(row[0]) for row in rows} | keys


@contextmanager
def faulty(engine: str, steps: Iterable[str], victim: str, fault: Callable[[], Exception]) -> Iterator[list[str]]:
    """In this process the engine is that one, in files and on servers: which steps have failed."""
    raised: list[str] = []
    wholes = [(table._made, table[engine]) for table in (catalog.ENGINES, catalog._ON_SERVERS)]
    for made, whole in wholes:
        made[engine] = FaultyEngine(whole, frozenset(steps), victim, fault, raised)
    try:
        yield raised
    finally:
        for made, whole in wholes:
            made[engine] = whole
