"""Events as a stream that misses none and repeats none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from provisioner.core.errors import NotResolved
from provisioner.core.model import App, Timeline
from provisioner.jobs.event_documents import EventDocuments
from provisioner.registry import events
from provisioner.registry.events import EventFilter, Recorded
from provisioner.registry.store import Registry
from provisioner.system.atomic_file import sync_path

PAGE = 500
LATEST = 100  # events of a history


def must_exist(registry: Registry, cursor: int) -> None:
    """Raises NotResolved if no event has had this number yet: it is another registry's, or a later one's."""
    last = events.last_seq(registry)
    if cursor > last:
        raise NotResolved(
            f"there is no event {cursor} in {registry.home.path}, the latest is {last}",
            "Start again without --cursor: the registry may have been restored from an older copy",
        )


def history_of(registry: Registry, app: App, timeline: Timeline) -> list[dict[str, Any]]:
    """The documents of a timeline's latest events, the oldest first."""
    wanted = EventFilter(app.id, timeline.id, None, None, (), None)
    return list(map(EventDocuments(registry).of, events.newest(registry, wanted, LATEST)))


def follow(registry: Registry, cursor: int, wanted: EventFilter, pause: Callable[[], None]) -> Iterator[list[Recorded]]:
    """The events after the number `cursor` as they come, some at a time. In a pause only a counter is read: whether the
    registry has changed. What was yielded is on disk, so that no other event ever gets its number."""
    version: int | None = None
    while True:
        now = registry.data_version()
        if now != version:
            version = now  # before the events are read: what comes in between changes it again
            must_exist(registry, cursor)
            last = events.last_seq(registry)
            while cursor < last:
                page = events.after(registry, cursor, last, wanted, PAGE)
                cursor = page[-1].seq if len(page) == PAGE else last
                if page:
                    with suppress(FileNotFoundError):
                        sync_path(f"{registry.home.registry}-wal")
                    yield page
        pause()
