"""Timelines as a graph: a line for each, from its creation until now, and the point where it was forked from another."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from provisioner.core.ids import DatabaseId
from provisioner.core.naming import shown
from provisioner.dashboard.pages.database_rows import DatabaseRow
from provisioner.operations.documents import size_text

MOST: Final = 30  # lanes
WIDTH: Final = 920
_LEFT: Final = 230  # of the names
_RIGHT: Final = 80  # of the sizes
_LANE: Final = 30
_TOP: Final = 20
_NAME: Final = 30  # characters
_BEND: Final = 14
_SHORTEST_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Lane:
    """Positions in the units of the graph. `fork` is a path from the source's line, `share` one to the line of the
    shared database; empty if there is none."""

    id: str
    title: str
    name: str
    status: str
    size: str
    y: int
    start: float
    end: float
    radius: float
    fork: str
    share: str


@dataclass(frozen=True, slots=True)
class Picture:
    lanes: list[Lane]
    left_out: int
    height: int
    marks: list[tuple[float, str]]


def picture(rows: list[DatabaseRow], now: int) -> Picture:
    """The lanes in the order of the rows, but with forks below their sources."""
    ordered = _ordered(rows)[:MOST]
    first = min([now - _SHORTEST_MS, *(row.database.created_at for row in ordered)])
    span = now - first
    room = WIDTH - _LEFT - _RIGHT

    def at(time: int) -> float:
        return round(_LEFT + room * min(max(time - first, 0), span) / span, 1)

    lines = {row.database.id: _TOP + _LANE * index + _LANE // 2 for index, row in enumerate(ordered)}
    held = Counter(row.timeline.id for row in ordered)
    lanes = []
    for row in ordered:
        database = row.database
        y = lines[database.id]
        began = at(database.forked_at or database.created_at)
        source = lines.get(database.forked_from or DatabaseId(""))
        fork = ""
        if source is not None and source != y:
            bend = max(_LEFT, began - _BEND)
            fork = f"M {bend} {source} Q {bend} {y} {began} {y}"
        share = ""
        used = lines.get(row.use.database.id) if row.use is not None else None
        if row.use is not None and used is not None:
            x = at(row.use.since)
            share = f"M {x} {y} Q {x} {used} {x + 14} {used}"
        size = row.document["size"]
        lanes.append(
            Lane(
                database.id,
                _title(row),
                _name(row, several=held[row.timeline.id] > 1),
                f"{row.state.status} shared" if row.use is not None else str(row.state.status),
                size_text(size),
                y,
                began,
                at(database.archived_at or now),
                round(3 + min(7, math.log10(max(size or 1, 1)) * 0.8), 1),
                fork,
                share,
            )
        )
    marks = [(at(first + span * part // 4), _distance(span * (4 - part) // 4)) for part in range(5)]
    return Picture(lanes, max(0, len(rows) - MOST), _TOP + _LANE * len(lanes) + 24, marks)


def _name(row: DatabaseRow, *, several: bool) -> str:
    """With the instance if a timeline has `several` databases in the graph: each has a lane."""
    text = shown(row.timeline.name).removeprefix("git-branch/")
    if row.timeline.preview:
        text = text[: len("preview/") + 12]
    end = f" on {row.document['instance']}"[:_NAME] if several else ""
    room = _NAME - len(end) // 2
    return (text if len(text) <= room else f"{text[: room - 1]}…") + end


def _title(row: DatabaseRow) -> str:
    state = row.state.words or row.state.status
    text = f"{shown(row.timeline.name)} on {row.document['instance']}: {state}, {size_text(row.document['size'])}"
    if row.use is not None:
        text += f"; uses the database of {shown(row.use.owner.name)}"
    if row.users:
        text += f"; also used by {', '.join(shown(user.name) for user in row.users)}"
    return text


def _ordered(rows: list[DatabaseRow]) -> list[DatabaseRow]:
    here = {row.database.id for row in rows}
    below: dict[str, list[DatabaseRow]] = {}
    for row in rows:
        source = row.database.forked_from
        below.setdefault(source if source in here and source != row.database.id else "", []).append(row)
    found: list[DatabaseRow] = []
    waiting = list(reversed(below.get("", [])))
    while waiting:
        row = waiting.pop()
        found.append(row)
        waiting += reversed(below.get(row.database.id, []))
    return found


def _distance(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago" if seconds else "now"
