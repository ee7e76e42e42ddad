"""One isolated database, and what happens to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provisioner.core.ids import DatabaseId, InstanceId, ShareId, SnapshotId, TimelineId
from provisioner.core.model import database_state
from provisioner.core.model.database_state import Connected, DatabaseState, Hold, Intent, Status, StepFailure

NO_SHARE = ShareId("")


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
    state: DatabaseState
    created_at: int
    connected_at: int | None
    forked_from: DatabaseId | None = None
    forked_at: int | None = None
    fork_version: int | None = None
    forked_snapshot: SnapshotId | None = None
    token_generation: int = 0
    moved: bool = False
    renewals: int = 0
    renewed: int = 0

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def intent(self) -> Intent | None:
        return self.state.intent

    @property
    def hold(self) -> Hold | None:
        return self.state.hold

    @property
    def error(self) -> str | None:
        return self.state.failure.error if self.state.failure else None

    @property
    def attempts(self) -> int:
        return self.state.failure.attempts if self.state.failure else 0

    @property
    def retry_at(self) -> int | None:
        return self.state.failure.retry_at if self.state.failure else None

    @property
    def archived_at(self) -> int | None:
        return self.state.archived_at

    @property
    def purge_at(self) -> int | None:
        return self.state.purge_at

    @property
    def settled(self) -> bool:
        """Is it connected, without an unfinished step?"""
        return isinstance(self.state, Connected) and self.state.intent is None

    def with_intent(self, intent: Intent) -> Database:
        """The database once this step has been recorded. Raises ImpossibleState if it cannot follow."""
        return replace(self, state=database_state.with_intent(self.state, intent))

    def with_hold(self, hold: Hold | None) -> Database:
        """The database with this hold, or with none; without one if it was purged."""
        return replace(self, state=database_state.with_hold(self.state, hold))

    def with_failure(self, failure: StepFailure | None) -> Database:
        """The database with this failure, or none, in the same status."""
        return replace(self, state=database_state.with_failure(self.state, failure))

    def retried_at_once(self) -> Database:
        """The database with no time before which what failed is not tried again."""
        failure = self.state.failure
        return self if failure is None else self.with_failure(replace(failure, retry_at=None))

    def failed(self, failure: StepFailure) -> Database:
        """The database once a step on it has failed, or something was found to be wrong. What is archived stays archived."""
        return replace(self, state=database_state.failed(self.state, failure))

    def connected(self, at: int) -> Database:
        """The database once programs can use it, which they first could `at` (ms) if they never could before."""
        first = at if self.connected_at is None else self.connected_at
        return replace(self, state=Connected(hold=self.state.hold), connected_at=first)

    def kept_until(self, purge_at: int | None) -> Database:
        """The database with another end of its retention (ms; None keeps it) if it is archived."""
        return replace(self, state=database_state.kept_until(self.state, purge_at))

    def archived(self, at: int, purge_at: int | None) -> Database:
        """The database once it is archived, which it was first `at` (ms) if it has no time of that yet."""
        return replace(self, state=database_state.archived(self.state, at, purge_at))

    def purged(self) -> Database:
        """The database once its data was permanently deleted."""
        return replace(self, state=database_state.purged(self.state))

    @property
    def to_renew(self) -> bool:
        return self.renewals != self.renewed

    @property
    def copied_aside(self) -> bool:
        """Whether a job is to make it a scrubbed copy."""
        return self.state.intent is Intent.SCRUB

    @property
    def live(self) -> bool:
        return self.state.live


@dataclass(frozen=True, slots=True)
class Share:
    """On this instance the timeline uses the database, which is of another timeline of its app. What its apps are given to
    open it is derived from ``id``."""

    timeline_id: TimelineId
    instance_id: InstanceId
    database_id: DatabaseId
    created_at: int
    id: ShareId = NO_SHARE
