"""One isolated database, and what happens to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import DatabaseId, InstanceId, ShareId, SnapshotId, TimelineId

NO_SHARE = ShareId("")


class Status(StrEnum):
    """The status of a database, as users see it."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    CONNECTED = "connected"
    ERROR = "error"
    ARCHIVED = "archived"
    PURGED = "purged"


class Intent(StrEnum):
    """A step that has started and not yet finished. Written before the step, cleared with its result."""

    PROVISION = "provision"
    ARCHIVE = "archive"
    RECOVER = "recover"
    PURGE = "purge"
    REPLACE = "replace"
    SCRUB = "scrub"  # provisioned as a copy with a scrub command, which takes long and so runs as a job


class Hold(StrEnum):
    """A state that outranks the refs until a person ends it."""

    ARCHIVED = "archived"
    CONNECTED = "connected"
    ORPHANED = "orphaned"  # according to git, its branch is now another one, or its branch is unclear


@dataclass(frozen=True, slots=True)
class Database:
    """One isolated database. ``connected_at`` is set once it has held data: from then on it is never created again.

    ``forked_from`` is the id of the database that it started as a copy of, ``forked_snapshot`` the snapshot that was copied
    (None: the data at that time), ``forked_at`` the time of the copy (None: it is still due), ``fork_version`` the version
    of the last write that both have. ``token_generation`` is the generation of its credentials. ``moved``: it is already at
    the location that its instance is moving to. While ``renewed`` is not ``renewals``, its server has old logins.
    """

    id: DatabaseId
    timeline_id: TimelineId
    instance_id: InstanceId
    name: str
    status: Status
    intent: Intent | None
    error: str | None
    attempts: int
    retry_at: int | None
    hold: Hold | None
    created_at: int
    connected_at: int | None
    archived_at: int | None
    purge_at: int | None
    forked_from: DatabaseId | None = None
    forked_at: int | None = None
    fork_version: int | None = None
    forked_snapshot: SnapshotId | None = None
    token_generation: int = 0
    moved: bool = False
    renewals: int = 0
    renewed: int = 0

    @property
    def to_renew(self) -> bool:
        return self.renewals != self.renewed

    @property
    def copied_aside(self) -> bool:
        """Whether a job is to make it a scrubbed copy."""
        return self.intent is Intent.SCRUB and self.live

    @property
    def live(self) -> bool:
        return self.status not in (Status.ARCHIVED, Status.PURGED)


@dataclass(frozen=True, slots=True)
class Share:
    """On this instance the timeline uses the database, which is of another timeline of its app. What its apps are given to
    open it is derived from ``id``."""

    timeline_id: TimelineId
    instance_id: InstanceId
    database_id: DatabaseId
    created_at: int
    id: ShareId = NO_SHARE
