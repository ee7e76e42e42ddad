"""What is known of the apps that run for timelines, as frozen values. Times are whole milliseconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import AppId, TimelineId

IDLE_MS = 15 * 60_000
BUILD_MS = 15 * 60_000
MEMORY_BYTES = 1 << 30
MOST_PROCESSES = 1000  # of an app or a build, at a time
LOCALHOST = "localhost"


class AppState(StrEnum):
    """The state of a timeline's app, as users see it."""

    BUILDING = "building"
    STARTING = "starting"
    RUNNING = "running"
    SLEEPING = "sleeping"  # the next request starts it
    STOPPED = "stopped"  # by a person, or because its branch is gone
    FAILED = "failed"


class DeploymentState(StrEnum):
    """How far a deployment has come. ``ready``: it was healthy once, and can be started again."""

    BUILDING = "building"
    BUILT = "built"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    CUT_OFF = "cut off"
    SKIPPED = "skipped"  # its commit says so


class StepState(StrEnum):
    """How a step of a deployment went."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunCommand:
    """How an app is built and started. Commands are for the shell; an empty one is not run.

    ``directory`` is where in the repository, ``health`` the path of a request that has to succeed before an app gets others.
    ``idle_ms``: how long after its last request an app of a branch is put to sleep; None is never. With
    ``from_repository`` the revision itself says what is empty here. ``public``: no one has to sign in. ``unfenced``: it may
    be started where nothing confines it. ``memory_bytes`` is what all of its processes may take. ``changed_at``: revisions
    that are older are deployed at their first request.
    """

    app_id: AppId
    command: str
    install: str = ""
    build: str = ""
    directory: str = ""
    health: str = ""
    idle_ms: int | None = IDLE_MS
    from_repository: bool = False
    public: bool = False
    unfenced: bool = False
    memory_bytes: int = MEMORY_BYTES
    changed_at: int = 0


@dataclass(frozen=True, slots=True)
class HostedApp:
    """The app of a timeline. ``label`` is that of its host name, empty for production.

    ``active`` is the id of the deployment that requests go to, if any; ``locked`` the revision it is kept at, if it is.
    ``error`` is why the last deployment or start failed; empty if it did not.
    """

    timeline_id: TimelineId
    app_id: AppId
    label: str
    state: AppState
    error: str = ""
    active: str = ""
    locked: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A revision that is, or was, built and started for a timeline. ``port`` is the last that it listened on."""

    id: str
    timeline_id: TimelineId
    revision: str
    state: DeploymentState
    error: str
    cause: str
    port: int | None
    created_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class DeploymentStep:
    """One of checkout, install, build, and start, which ends when the app is healthy."""

    deployment_id: str
    name: str
    state: StepState
    error: str
    started_at: int
    ended_at: int | None
