"""The states that a database can be in, each with what it has then.

Status, intent, and hold are not independent. A database that is connected is never being purged, one that failed has an
error, and one that is purged has neither a step left nor a hold. So each status has a type, which can hold only
what is possible. `state_of` makes one of stored values, and refuses those that fit none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Literal, TypeAlias, assert_never


class Status(StrEnum):
    """The status of a database or a timeline, as users see it. Only a timeline without databases is ``pending``."""

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
class StepFailure:
    """Why the last step failed, after how many attempts, and when (ms) it is tried again; None: at the next look."""

    error: str
    attempts: int = 0
    retry_at: int | None = None


@dataclass(frozen=True, slots=True)
class Provisioning:
    """It is being created, or archived before it was."""

    status: ClassVar[Status] = Status.PROVISIONING
    live: ClassVar[bool] = True
    archived_at: ClassVar[None] = None
    purge_at: ClassVar[None] = None
    intent: Literal[Intent.PROVISION, Intent.SCRUB, Intent.ARCHIVE]
    failure: StepFailure | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """Programs can use it, unless a step on it was interrupted. Its `failure` is one that they do not notice."""

    status: ClassVar[Status] = Status.CONNECTED
    live: ClassVar[bool] = True
    archived_at: ClassVar[None] = None
    purge_at: ClassVar[None] = None
    intent: Literal[Intent.PROVISION, Intent.ARCHIVE, Intent.REPLACE] | None = None
    failure: StepFailure | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """It cannot be used. Without an intent it is connected again once what is wrong is no more."""

    status: ClassVar[Status] = Status.ERROR
    live: ClassVar[bool] = True
    archived_at: ClassVar[None] = None
    purge_at: ClassVar[None] = None
    failure: StepFailure
    intent: Literal[Intent.PROVISION, Intent.SCRUB, Intent.ARCHIVE, Intent.REPLACE] | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Archived:
    """Its data is kept, and no program can use it. `purge_at` (ms) is when its retention ends; None keeps it."""

    status: ClassVar[Status] = Status.ARCHIVED
    live: ClassVar[bool] = False
    archived_at: int
    purge_at: int | None = None
    intent: Literal[Intent.ARCHIVE, Intent.RECOVER, Intent.PURGE] | None = None
    failure: StepFailure | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Purged:
    """Its data was permanently deleted. The times are those of its archive, if it was there."""

    status: ClassVar[Status] = Status.PURGED
    live: ClassVar[bool] = False
    intent: ClassVar[None] = None
    failure: ClassVar[None] = None
    hold: ClassVar[None] = None
    archived_at: int | None = None
    purge_at: int | None = None


DatabaseState: TypeAlias = Provisioning | Connected | Unusable | Archived | Purged


class ImpossibleState(ValueError):  # noqa: N818 - what it is
    """No database can be in this state."""

    def __init__(self, status: Status, intent: Intent | None, error: str | None, archived_at: int | None) -> None:
        missing = ["no error"] if status is Status.ERROR and error is None else []
        missing += ["no time of its archive"] if status is Status.ARCHIVED and archived_at is None else []
        super().__init__(", ".join([f"status {status}", f"intent {intent}" if intent else "no intent", *missing]))


def state_of(
    status: Status,
    intent: Intent | None = None,
    error: str | None = None,
    attempts: int = 0,
    retry_at: int | None = None,
    hold: Hold | None = None,
    archived_at: int | None = None,
    purge_at: int | None = None,
) -> DatabaseState:
    """The state with these values. Raises ImpossibleState.

    Values that mean nothing in a state are dropped: the number of attempts without an error, the times of an archive that
    a database is not in, and the hold and the error of one that is purged.
    """
    failure = None if error is None else StepFailure(error, attempts, retry_at)
    found: DatabaseState | None
    match status:
        case Status.PROVISIONING:
            found = _provisioning(intent, failure, hold)
        case Status.CONNECTED:
            found = _connected(intent, failure, hold)
        case Status.ERROR:
            found = _unusable(intent, failure, hold)
        case Status.ARCHIVED:
            found = None if archived_at is None else _archived(archived_at, purge_at, intent, failure, hold)
        case Status.PURGED:
            found = Purged(archived_at, purge_at) if intent is None else None
        case Status.PENDING:
            found = None
        case _:
            assert_never(status)
    if found is None:
        raise ImpossibleState(status, intent, error, archived_at)
    return found


def _provisioning(intent: Intent | None, failure: StepFailure | None, hold: Hold | None) -> Provisioning | None:
    match intent:
        case Intent.PROVISION | Intent.SCRUB | Intent.ARCHIVE:
            return Provisioning(intent, failure, hold)
        case _:
            return None


def _connected(intent: Intent | None, failure: StepFailure | None, hold: Hold | None) -> Connected | None:
    match intent:
        case None | Intent.PROVISION | Intent.ARCHIVE | Intent.REPLACE:
            return Connected(intent, failure, hold)
        case _:
            return None


def _unusable(intent: Intent | None, failure: StepFailure | None, hold: Hold | None) -> Unusable | None:
    match intent:
        case None | Intent.PROVISION | Intent.SCRUB | Intent.ARCHIVE | Intent.REPLACE:
            return None if failure is None else Unusable(failure, intent, hold)
        case _:
            return None


def _archived(
    at: int, purge_at: int | None, intent: Intent | None, failure: StepFailure | None, hold: Hold | None
) -> Archived | None:
    match intent:
        case None | Intent.ARCHIVE | Intent.RECOVER | Intent.PURGE:
            return Archived(at, purge_at, intent, failure, hold)
        case _:
            return None


def with_intent(state: DatabaseState, intent: Intent) -> DatabaseState:
    """The state once this step has been recorded. Raises ImpossibleState if it cannot follow."""
    if intent is Intent.SCRUB and not isinstance(state, Connected | Purged):
        return Provisioning(intent, state.failure, state.hold)
    failure, times = state.failure, (state.archived_at, state.purge_at)
    if failure is None:
        return state_of(state.status, intent, None, 0, None, state.hold, *times)
    return state_of(state.status, intent, failure.error, failure.attempts, failure.retry_at, state.hold, *times)


def with_hold(state: DatabaseState, hold: Hold | None) -> DatabaseState:
    """The state with this hold, or with none. What is purged cannot be held."""
    return state if isinstance(state, Purged) else replace(state, hold=hold)


def with_failure(state: DatabaseState, failure: StepFailure | None) -> DatabaseState:
    """The state with this failure, or none, in the same status."""
    match state:
        case Unusable():
            return state if failure is None else replace(state, failure=failure)
        case Provisioning() | Connected() | Archived():
            return replace(state, failure=failure)
        case Purged():
            return state
        case _:
            assert_never(state)


def failed(state: DatabaseState, failure: StepFailure) -> DatabaseState:
    """The state once a step has failed, or something was found to be wrong. What is archived stays archived."""
    match state:
        case Provisioning() | Connected() | Unusable():
            return Unusable(failure, state.intent, state.hold)
        case Archived() | Purged():
            return with_failure(state, failure)
        case _:
            assert_never(state)


def kept_until(state: DatabaseState, purge_at: int | None) -> DatabaseState:
    """The state with another end of its retention (ms; None keeps it) if it is archived."""
    return replace(state, purge_at=purge_at) if isinstance(state, Archived) else state


def archived(state: DatabaseState, at: int, purge_at: int | None) -> DatabaseState:
    """The state once it is archived, which was first done `at` (ms) if it has no time of that yet."""
    archived_at = at if state.archived_at is None else state.archived_at
    return Archived(archived_at, purge_at, hold=state.hold)


def purged(state: DatabaseState) -> Purged:
    """The state once its data was permanently deleted."""
    return Purged(state.archived_at, state.purge_at)
