"""Events as documents: what ``events --json`` prints, and what operators' hooks get."""

from __future__ import annotations

import os
from typing import Any

from provisioner.core.clock import rfc3339
from provisioner.core.host_names import host_name, label_of
from provisioner.core.ids import InstanceId
from provisioner.core.model import Database, Timeline
from provisioner.registry import hosting, queries
from provisioner.registry.events import HOOKS, Recorded
from provisioner.registry.store import Registry
from provisioner.registry.tables.connection import printable
from provisioner.system.router_address import address

_FAILURES = ("error", "-failed", "-cut-off", "-stopped", ".refused", ".uncertain")
_PEOPLE = ("user", "login link")


class EventDocuments:
    """Makes documents of events. What does not change for an id is read from the registry once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._slugs: dict[str, str] = {}

    def of(self, event: Recorded) -> dict[str, Any]:
        database = None if event.database_id is None else self._registry.database(event.database_id)
        timeline = self._timeline(event, database)
        name = event.timeline
        if timeline is not None and name in (None, printable(os.fsdecode(timeline.name))):
            name = os.fsdecode(timeline.name)
        failed = event.action.endswith(_FAILURES)
        person = event.cause in _PEOPLE or event.cause.startswith("token ")
        return {
            "seq": event.seq,
            "at": rfc3339(event.at),
            "type": event.action,
            "app": None if event.app_id is None else self._app(event.app_id),
            "timeline": name,
            "branch": _branch(name, timeline),
            "revision": event.revision or None,
            "instance": None if database is None else self._instance(database.instance_id),
            "database": None if database is None else {"id": database.id, "name": database.name},
            "actor": event.cause if person else None,
            "cause": event.cause,
            "url": self._url(event, timeline),
            "error": event.detail or None if failed else None,
            "detail": None if failed else event.detail or None,
        }

    def _timeline(self, event: Recorded, database: Database | None) -> Timeline | None:
        timeline_id = event.timeline_id or (database.timeline_id if database and event.timeline is None else None)
        return None if timeline_id is None else queries.timeline_by_id(self._registry, timeline_id)

    def _url(self, event: Recorded, timeline: Timeline | None) -> str | None:
        """The URL of the app that provisioner runs for the timeline of one of the events that have hooks."""
        if timeline is None or timeline.preview or event.action not in HOOKS.values():
            return None
        if hosting.run_command(self._registry, timeline.app_id) is None:
            return None
        router = address(self._registry.home)
        return router.url(host_name(self._app(timeline.app_id), label_of(timeline.name), router.domain))

    def _app(self, app_id: str) -> str:
        if app_id not in self._slugs:
            self._slugs.update({app.id: app.slug for app in self._registry.apps(removed=True)})
        return self._slugs.get(app_id, app_id)

    def _instance(self, instance_id: InstanceId) -> str:
        return self._registry.instance_of(instance_id).slug


def _branch(name: str | None, timeline: Timeline | None) -> str | None:
    """The branch that a timeline was of when it had this name; of production the branch that it has now."""
    if name is None or (timeline is not None and timeline.preview):
        return None
    if name == "production":
        return os.fsdecode(timeline.branch) if timeline is not None else None
    prefix = "git-branch/"
    return name.removeprefix(prefix) if name.startswith(prefix) else None
