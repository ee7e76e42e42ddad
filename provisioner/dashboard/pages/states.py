"""The state that matters to a person: that of a database, or the failure of its timeline."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.core.model import App, Database, Status, Timeline, deploy_status


@dataclass(frozen=True, slots=True)
class StatusLabel:
    """A status, which gives the color, and other words for it if it has some."""

    status: Status
    words: str = ""


FAILED = StatusLabel(Status.ERROR, "pre-deploy failed")
WAITING = StatusLabel(Status.PROVISIONING, "pre-deploy")


def state_of(app: App | None, timeline: Timeline, database: Database, used: Database | None = None) -> StatusLabel:
    """Of the timeline's own database, or of the one `used` instead: nothing runs a pre-deploy command there."""
    if used is not None:
        return StatusLabel(used.status)
    if database.status is not Status.CONNECTED or app is None or timeline.gone_at is not None:
        return StatusLabel(database.status)
    match deploy_status(app, timeline):
        case Status.ERROR:
            return FAILED
        case Status.PROVISIONING:
            return WAITING
        case _:
            return StatusLabel(database.status)
