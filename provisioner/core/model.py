"""The words of the design as frozen values. No I/O. Times are whole milliseconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from provisioner.core.allowance import USUAL_ALLOWANCE, Allowance
from provisioner.core.connection import Location
from provisioner.core.ids import AppId, DatabaseId, InstanceId, RunId, ShareId, SnapshotId, TimelineId, TokenId
from provisioner.core.naming import timeline_name

PRE_DEPLOY_MS = 600_000
MAX_BRANCHES = 10_000
CHECKOUT_FILES, CHECKOUT_BYTES = 100_000, 4_000_000_000
_DETACHED = b"detached:"
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


class ConnectMode(StrEnum):
    """How an app connects: by file, by the server's URL, or by the URL while a server runs."""

    AUTO = "auto"
    FILE = "file"
    URL = "url"


class Context(StrEnum):
    """The set of an app's variables that a process gets."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    LOCAL = "local"


class SnapshotState(StrEnum):
    """Whether a snapshot's data is complete; the next reconcile finds those that are being created or deleted."""

    MAKING = "making"
    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"


class RunState(StrEnum):
    """The state of a run. One that is ``running`` without a process was interrupted, which the next look finds."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CUT_OFF = "cut off"


class Copies(StrEnum):
    """Before which runs of a pre-deploy command the data is copied: when the command or its inputs have changed, always,
    or never."""

    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


class Scope(StrEnum):
    """What an access token opens: one database, an app's development timelines, or everything."""

    DATABASE = "database"
    APP = "app"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Organization:
    id: str
    slug: str


@dataclass(frozen=True, slots=True)
class InstanceMove:
    """The target of an instance's move: its location, URL, and required quorum from then on."""

    location: Location
    url: str = field(repr=False)
    require_quorum: int


@dataclass(frozen=True, slots=True)
class LeftStorage:
    """The location of an instance before its last move. Its old data is there."""

    location: Location
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Instance:
    """Where databases are stored.

    ``url`` is that URL with the administrator's name and password; empty where the engine needs none, or keeps it in the
    directory. ``home`` is the organization's directory: the passwords of roles are derived from its key. On at least
    ``require_quorum`` nodes a write has to lie before it is acknowledged; 0 where that is not looked at.

    ``move`` is the move that is in progress, if there is one; ``left`` is where the last move came from, until what it left
    there is deleted.
    """

    id: InstanceId
    slug: str
    engine: str
    location: Location
    created_at: int
    url: str = field(default="", repr=False)
    require_quorum: int = 0
    home: str = ""
    move: InstanceMove | None = None
    left: LeftStorage | None = None
    allowance: Allowance = USUAL_ALLOWANCE

    @property
    def moving(self) -> bool:
        return self.move is not None

    def storage(self, *, moved: bool) -> Instance:
        """The same, storing only where its databases are that were `moved`, or that were not."""
        if not moved or self.move is None:
            return self
        return replace(self, location=self.move.location, url=self.move.url, require_quorum=self.move.require_quorum)


@dataclass(frozen=True, slots=True)
class App:
    """A git repository. ``git_dir`` is its common directory, ``production`` its production branch, both raw bytes.

    ``expire_ms``: how long development timelines are kept after their last push, unless they have their own setting;
    None is indefinitely. ``pre_deploy`` is a shell command for each new revision, ``pre_deploy_from`` a file of the revision
    that holds it, ``pre_deploy_ms`` its time limit. ``snapshot_revisions``: the number of revisions whose data is kept.

    Commands may reach what `provisioner.runs.sandbox` allows, if ``sandbox``, and also ``allow_read`` and ``allow_write``;
    with ``unix_sockets`` also services that listen on those. They run as the account ``run_as``, if it is not empty.
    ``pre_deploy_copies``: before which runs the data is copied; ``pre_deploy_inputs`` are files and directories of a revision
    that count as part of the command. At most ``max_branches`` branches have databases, and a checkout has at most
    ``checkout_files`` files with ``checkout_bytes`` bytes; 0 means no limit.
    """

    id: AppId
    slug: str
    git_dir: bytes
    production: bytes
    grace_ms: int
    retention_ms: int
    created_at: int
    expire_ms: int | None = None
    pre_deploy: str = ""
    pre_deploy_from: str = ""
    pre_deploy_ms: int = PRE_DEPLOY_MS
    snapshot_revisions: int = 0
    run_as: str = ""
    sandbox: bool = True
    unix_sockets: bool = False
    allow_read: tuple[str, ...] = ()
    allow_write: tuple[str, ...] = ()
    pre_deploy_copies: Copies = Copies.CHANGED
    pre_deploy_inputs: tuple[str, ...] = ()
    max_branches: int = MAX_BRANCHES
    checkout_files: int = CHECKOUT_FILES
    checkout_bytes: int = CHECKOUT_BYTES

    @property
    def detached_from(self) -> bytes | None:
        """The repository of the original home's app, if this app belongs to a copied home and has none yet."""
        return self.git_dir.removeprefix(_DETACHED) if self.git_dir.startswith(_DETACHED) else None

    @property
    def deploys(self) -> bool:
        """Is a command run for each new revision?"""
        return bool(self.pre_deploy or self.pre_deploy_from)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The history of a branch, or of one revision: then ``preview`` is set and ``branch`` is that commit's id.

    ``expire_ms`` is how long it is kept after ``active_at``: None is the app's setting, 0 indefinitely. ``deployed`` is the
    revision that the pre-deploy command last ran for, ``failure`` its error. ``deployed_by`` identifies the command that
    last succeeded, with its inputs. It does not run while the timeline is ``sharing``, which means that it uses another
    timeline's database.

    ``lineage`` tells its branch from others that are called so before or after it (see `provisioner.git.lineage`). ``doubt``
    holds the ids of databases that may be its branch's: it gets none until a person has decided. ``rename_mark`` is what
    registries had before there were lineages.
    """

    id: TimelineId
    app_id: AppId
    branch: bytes
    production: bool
    revision: str
    created_at: int
    gone_at: int | None
    rename_mark: str
    preview: bool = False
    protected: bool = False
    expire_ms: int | None = None
    active_at: int = 0
    deployed: str = ""
    failure: str | None = None
    deployed_by: str = ""
    lineage: str = ""
    doubt: str = ""
    sharing: bool = False

    @property
    def name(self) -> bytes:
        return timeline_name(self.branch, production=self.production, preview=self.preview)

    @property
    def of_branch(self) -> bool:
        """Is it a branch's, and not the production branch's?"""
        return not self.production and not self.preview


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A database's data as it was at ``created_at``. ``cause`` is ``user``, or what was about to replace the data;
    ``revision`` the commit that its timeline was at. ``version`` and ``size`` (bytes) are None until it is made. Those of
    a timeline's databases that were taken by one command have the same ``set_id``."""

    id: SnapshotId
    database_id: DatabaseId
    label: str
    cause: str
    revision: str
    state: SnapshotState
    version: int | None
    size: int | None
    created_at: int
    deleted_at: int | None
    set_id: str = ""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A replacement of a database's data. ``kept_as`` is the snapshot that the current data becomes.

    Not ``ready``: the new data is being built, and discarded if its process dies. ``ready``: from here on it is finished.
    Those of one command become ready together, and their snapshots have the same ``set_id``. ``deploy``: the pre-deploy
    command runs on the timeline afterwards.
    """

    database_id: DatabaseId
    action: str
    detail: str
    kept_as: SnapshotId
    ready: bool
    forked_from: DatabaseId | None
    forked_at: int | None
    fork_version: int | None
    begun_at: int
    set_id: str = ""
    deploy: bool = True


@dataclass(frozen=True, slots=True)
class Scrub:
    """A command that must succeed on a copy before a program can connect to it, within ``limit_ms``."""

    command: str
    limit_ms: int


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


@dataclass(frozen=True, slots=True)
class Token:
    """A long-lived access token, without its secret. ``app_id`` and ``database_id`` are set as ``scope`` says."""

    id: TokenId
    label: str
    scope: Scope
    app_id: AppId | None
    database_id: DatabaseId | None
    read_only: bool
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def valid(self, now: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def detached(git_dir: bytes) -> bytes:
    """What an app of a copied home has for its repository: that of the original, which it must not follow."""
    return git_dir if git_dir.startswith(_DETACHED) else _DETACHED + git_dir


def deploy_status(app: App, timeline: Timeline) -> Status | None:
    """What the pre-deploy command makes of a timeline; None where none is run for it."""
    if not app.deploys or timeline.sharing:
        return None
    if timeline.deployed != timeline.revision:
        return Status.PROVISIONING
    return Status.ERROR if timeline.failure is not None else Status.CONNECTED


def timeline_status(statuses: list[Status]) -> Status:
    """One word for a timeline: the status that a user has to know of first. It is connected if all of it is."""
    for status in (Status.ERROR, Status.PROVISIONING, Status.PENDING, Status.ARCHIVED, Status.CONNECTED):
        if status in statuses:
            return status
    return Status.PENDING
