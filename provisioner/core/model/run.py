"""Runs of a user's command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import DatabaseId, RunId, TimelineId


class RunState(StrEnum):
    """The state of a run. One that is ``running`` without a process was interrupted, which the next look finds."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class Run:
    """One time that a user's command was run: ``kind`` is ``pre-deploy``, or ``scrub`` of the database ``database_id``.

    ``detail`` says what went wrong.
    """

    id: RunId
    timeline_id: TimelineId
    database_id: DatabaseId | None
    kind: str
    revision: str
    command: str
    state: RunState
    detail: str
    started_at: int
    ended_at: int | None
