"""The desired state, the actual state, and the actions that lead from one to the other. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import App, Database, Instance, Share, Timeline


@dataclass(frozen=True, slots=True)
class Rename:
    """Git says that `old` became `new`, whose lineage that is."""

    old: bytes
    new: bytes
    lineage: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the refs say: branches with their commits, where to keep databases, and what was renamed.

    No two `renames` have the same old or the same new name, but one's old may be another's new. `lineages` are those of
    branches, where they are others than the registry has. No branch gets the data of the `unowned`, for these reasons;
    `unclear` are branches that may own it, by the branches of its timelines. `renewed` are branches that were made under the
    names of others that have ended since the last look. `deleted` are the instances that were deleted, by
    their ids, with the time (ms) at which their data is.
    """

    app: App
    branches: dict[bytes, str]
    instances: tuple[Instance, ...]
    renames: tuple[Rename, ...] = ()
    lineages: Mapping[bytes, str] = field(default_factory=dict)
    unowned: Mapping[bytes, str] = field(default_factory=dict)
    unclear: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    renewed: frozenset[bytes] = frozenset()
    deleted: dict[InstanceId, int] | None = None


@dataclass(frozen=True, slots=True)
class Actual:
    """What the registry says. `waited`: by the ids of archived databases whose time is over by the wall clock, how long (ms)
    they have waited by the clock that only runs forward."""

    timelines: tuple[Timeline, ...]
    databases: tuple[Database, ...]
    shares: tuple[Share, ...] = ()
    waited: Mapping[DatabaseId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenTimeline:
    """A branch has no timeline yet. With a `doubt` it gets no database either."""

    branch: bytes
    production: bool
    revision: str
    lineage: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class UpdateTimeline:
    """A timeline's row changes: its revision, or since when its ref has been gone (ms; None: it is there)."""

    timeline: Timeline
    revision: str
    gone_at: int | None
    lineage: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class RenameTimeline:
    """A branch was renamed: these databases of the timeline `old` go to the branch `new`, with what it shares.

    They are live, but for those in whose place it shares another's. `kept` come along as they are: their instances were
    deleted, and may be recovered, or a person has archived them.
    """

    old: Timeline
    new: bytes
    revision: str
    lineage: str
    databases: tuple[Database, ...]
    shares: tuple[Share, ...] = ()
    kept: tuple[Database, ...] = ()


@dataclass(frozen=True, slots=True)
class Orphan:
    """These databases of a timeline, and what it shares, are no longer its branch's, nor any other's: a person decides.

    `lineage` and `doubt` are those of the branch that has its name now, if there is one.
    """

    timeline: Timeline
    databases: tuple[Database, ...]
    shares: tuple[Share, ...]
    cause: str
    lineage: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """A timeline lacks a database on this instance."""

    timeline: Timeline
    instance: Instance


@dataclass(frozen=True, slots=True)
class Ensure:
    """A database is to be connected: finish making it, try it again, or bring it back from the archive."""

    database: Database
    timeline: Timeline
    cause: str


@dataclass(frozen=True, slots=True)
class Archive:
    """`purge_at` (ms) is when its retention ends; None keeps it."""

    database: Database
    timeline: Timeline
    cause: str
    purge_at: int | None


@dataclass(frozen=True, slots=True)
class Fail:
    """A database is unusable for a reason that only a person can resolve."""

    database: Database
    timeline: Timeline
    reason: str


@dataclass(frozen=True, slots=True)
class ClearHold:
    """The branch is back, so what a person asked for while it was gone is no longer needed."""

    database: Database
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Purge:
    database: Database
    timeline: Timeline
    cause: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The logins of a database have changed, and its server still has the old ones."""

    database: Database
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Unshare:
    """A timeline no longer uses another's database."""

    timeline: Timeline
    share: Share
    cause: str


Action = (
    OpenTimeline
    | UpdateTimeline
    | RenameTimeline
    | Orphan
    | Create
    | Ensure
    | Archive
    | Fail
    | ClearHold
    | Purge
    | Unshare
    | Renew
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`next_at`: when (ms) to look again though nothing has happened; None where time alone changes nothing."""

    actions: tuple[Action, ...]
    next_at: int | None
