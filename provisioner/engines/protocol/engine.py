"""What an engine does. Every step may be asked for again after it was cut off, and finishes or finds itself done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from provisioner.core.connection import KvEndpoint, Location, PostgresEndpoint
from provisioner.core.durations import written
from provisioner.core.ids import DatabaseId, ShareId, SnapshotId
from provisioner.core.model import Database, Instance
from provisioner.core.owner import InstanceMark, Owner

Failures = dict[DatabaseId, str]
"""Why a step failed, by database id. A database that is not in it is done, and on disk."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The state of a stored database: its location, and its size in bytes (None: it cannot be read).

    `path` is its file, `url` its address on a server, without credentials; one of them is None. `written_at`: when (ms) it was
    last written to, None if that is unknown.
    """

    path: str | None
    size: int | None
    written_at: int | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What was looked at, whether it is well, and a sentence that says what is, and what to do where it is not."""

    what: str
    well: bool
    text: str


@dataclass(frozen=True, slots=True)
class StoredDatabase:
    """A database that is stored at `where`, a path or a name on a server, and whose it says it is; None if it does not."""

    database_id: DatabaseId
    archived: bool
    where: str
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where data is copied from: a database as it is, or one of its snapshots."""

    database: Database
    snapshot_id: SnapshotId | None = None


@dataclass(frozen=True, slots=True)
class CopyResult:
    """`version`: that of the last write that copy and source both have, None where others have changed the copy since;
    `size` its bytes. `paused`: how many seconds writers waited for it; `how` it was made, where that is worth telling.
    `damage`: what is wrong with it, in a backup; everything else is not copied if it is damaged."""

    version: int | None
    size: int
    paused: float
    how: str = ""
    damage: str = ""


@dataclass(frozen=True, slots=True)
class StorageTarget:
    """What a user says of where an instance stores: a directory, or a server with what its certificate is checked by.

    `password` is the administrator's, instead of one in the URL.
    """

    directory: str | None = None
    url: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    sslmode: str | None = None
    require_quorum: int | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Standby:
    """A server that follows another one. `sync`: how commits wait for it, in the server's word; both lags are None if
    unknown."""

    name: str
    address: str
    state: str
    sync: str
    lag_bytes: int | None
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """On how many `nodes` an acknowledged write lies, and who follows. `problem`: why that is not what is `wanted`; empty
    where it is, or nothing is wanted (0)."""

    wanted: int
    nodes: int
    problem: str
    warnings: tuple[str, ...]
    standbys: tuple[Standby, ...]


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What each database of an instance may use of its server: connections at a time, bytes of temporary files of each, and
    milliseconds of one statement; None where there is no limit. `note`: what cannot be limited, and what to do."""

    connections: int | None
    temp_bytes: int | None
    statement_ms: int | None
    note: str = ""

    def text(self) -> str:
        """For people."""
        connections = (
            "any number of connections" if self.connections is None else f"at most {self.connections} connections"
        )
        temp = "any size" if self.temp_bytes is None else f"at most {self.temp_bytes / 1e6:g} MB"
        statement = "any time" if self.statement_ms is None else f"at most {written(self.statement_ms)}"
        note = f". {self.note[:1].upper()}{self.note[1:]}" if self.note else ""
        return f"{connections}, temporary files of {temp} for each, and {statement} for a statement{note}"


class Dumps(Protocol):
    """Dumps of an engine whose databases are dumped and loaded as a whole."""

    formats: tuple[str, ...]
    """The first is the usual one."""

    def dump(self, instance: Instance, database: Database, form: str, output: int | str) -> None:
        """Write everything as it is at one moment, to a file descriptor or as a new directory. Raises StorageFailed."""

    def is_empty(self, instance: Instance, database: Database) -> bool:
        """Whether nothing was ever created in it. Raises StorageFailed."""

    def load(self, instance: Instance, database: Database, path: str) -> CopyResult:
        """Build beside a database from a dump. Raises StorageFailed, and ProvisionerError for a file that is not a dump."""


class Engine(Protocol):
    """One engine, working on many databases of one instance at a time."""

    first: str
    """What an app has of the first instance of this engine, as the beginning of a sentence that ends in its name."""

    has_keys: bool
    """It holds keys and values: apps find them in a file or at the provisioner server, and people in the explorer."""

    kept_in: str
    """What holds a database's data, in a word."""

    dumps: Dumps | None
    """None where a dump is made of what is in a database's file."""

    apart: str
    """Why no app can open a database's file; empty where one can, or where apps never do."""

    anew: str
    """What becomes of programs when other data takes the place of a database's, which becomes a snapshot: a sentence."""

    def locate(self, where: StorageTarget, directory: str, known: Instance | None = None) -> tuple[Location, str]:
        """Location and administrator's URL of an instance; `directory` is one in the home for it. For a `known` one, settings
        that are not given stay. Raises UsageError."""

    def same_place(self, one: Instance, other: Instance) -> bool:
        """Are the databases of both the same?"""

    def kept(self, instance: Instance) -> ReplicationStatus | None:
        """How safely the instance keeps what is written there; None where there is only one of it. Raises StorageFailed."""

    def limits(self, instance: Instance) -> UsageLimits | None:
        """What each database may use; None where programs use no server, or it does not run. Raises StorageFailed."""

    def end_overlong(self, instance: Instance) -> list[str]:
        """End what runs in its databases for longer than the instance allows: a line on each. Raises StorageFailed."""

    def look(self, instance: Instance) -> HealthCheck:
        """Look, cheaply, whether the instance is there and has room."""

    def renew(self, instance: Instance, database: Database, shares: Sequence[ShareId]) -> None:
        """The valid credentials of the database have changed: admit those, and end the sessions of all others.

        `shares` are the ids of those by which other timelines use it. Raises StorageFailed.
        """

    def start(self, location: Location) -> None:
        """Have the server run that is of the home's own, if there is one there. Raises StorageFailed."""

    def stop(self, location: Location) -> bool:
        """Stop that; False if it did not run. Raises StorageFailed, including if there is no server."""

    def separate(self, location: Location) -> str:
        """Make what was copied in this directory, with its home, the copy's own: nothing in it leads to the original's.

        What the operator should know of it, empty if nothing. Raises StorageFailed, and then that home is not adopted.
        """

    def settle_in(self, location: Location) -> None:
        """The home of what is in this directory has moved: whatever is kept elsewhere for it goes with it. Raises
        StorageFailed."""

    def close(self) -> None:
        """End what it keeps of its work: sessions on servers, and what they said. It can be used again."""

    def prepare(self, instance: Instance) -> None:
        """Make the instance usable. Raises `StorageFailed` with the reason where it is not."""

    def test(self, instance: Instance) -> Iterable[HealthCheck]:
        """Find out whether databases can be stored there, by storing one. Nothing of it is left."""

    def ensure(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        """Make each database exist: new if it never held data, otherwise with its data. Never empties one."""

    def stock(self, instance: Instance, wanted: int) -> bool:
        """Make databases ahead of need, a few at a call, until `wanted` are there. True where more are missing."""

    def fork(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        """Make a database that never held data, as a copy of the source at one moment, while others write to that.

        Of queues nothing is copied. Raises `StorageFailed`.
        """

    def build(self, instance: Instance, database: Database, source: Source | None, *, with_queue: bool) -> CopyResult:
        """Build beside a database what is to replace it: a copy of the source, or nothing. Raises `StorageFailed`."""

    def copy_beside(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        """Build beside its place a database that never held data, as a copy of the source. Raises `StorageFailed`."""

    def beside(self, instance: Instance, database: Database) -> KvEndpoint | PostgresEndpoint:
        """How the new database beside it is reached: for commands that change it before any program is connected."""

    def script(self, beside: KvEndpoint | PostgresEndpoint, path: str) -> list[str]:
        """The words of a command that runs a file of SQL there, with the variables that say where that is."""

    def seal(self, instance: Instance, database: Database) -> None:
        """Have what was built beside, and then changed by others who are gone, whole and on disk.

        Raises `StorageFailed` if it is damaged.
        """

    def swap(self, instance: Instance, database: Database, kept_as: SnapshotId) -> int | None:
        """Replace the data with the new database; the old data becomes the snapshot `kept_as`. Returns the bytes that it
        holds, None if there was no data to keep.

        Called again, it continues after an interruption. Raises `StorageFailed`.
        """

    def discard(self, instance: Instance, database: Database) -> None:
        """Remove what was built beside. Raises `StorageFailed`."""

    def copy_out(self, instance: Instance, database: Database, directory: str) -> tuple[str, CopyResult]:
        """Make the directory with a copy of everything as it is at one moment, in one file: its path. Raises
        `StorageFailed`."""

    def snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> CopyResult:
        """Keep a copy of everything as it is at one moment. Raises `StorageFailed`."""

    def snapshot_file(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> str | None:
        """The file with a snapshot's data, to be copied and not to be opened; None if it is kept on a server."""

    def delete_snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> None:
        """Permanently delete a snapshot, or what exists of it. Raises `StorageFailed`."""

    def archive(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        """Put each database where no app finds it. Nothing is lost, not even what is being written."""

    def purge(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        """Permanently delete the data of archived databases, and the remains of incomplete ones."""

    def retire(self, instance: Instance) -> None:
        """Release what the instance itself has: it was permanently deleted, with all its databases. Raises `StorageFailed`."""

    def sweep(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[str]:
        """Remove empty databases that the registry does not know and that have no owner; where the unknown others are.

        `known` returns the ids of all databases in the registry; it is called after the stored ones are listed.
        """

    def record_owners(self, instance: Instance, owners: Sequence[Owner], *, durable: bool) -> Failures:
        """Write beside each database whose it is, and which instance stores there.

        Not `durable`, it may be lost with the power. A database that has no data there is skipped.
        """

    def find(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> dict[DatabaseId, StoredDatabase]:
        """By their ids, those of these databases that are there. Raises `StorageFailed`."""

    def lost(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> set[DatabaseId]:
        """Those of these databases of which no data is there, neither live nor archived. Raises `StorageFailed` if the place of
        the instance does not answer, or is not the one that it has stored in."""

    def claims(self, instance: Instance, keys: Collection[str]) -> dict[str, StoredDatabase]:
        """By the key of its timeline, the database that is there and says that it is this timeline's. Its cost does not grow
        with what else is there. Raises `StorageFailed`."""

    def stored(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[StoredDatabase]:
        """The databases there whose ids are not `known`, which is called after they are listed. Raises `StorageFailed`."""

    def mark(self, instance: Instance, home_id: str) -> None:
        """Record at the instance's location that it stores there. Raises `StorageFailed`."""

    def marked(self, instance: Instance, home_id: str) -> InstanceMark | None:
        """The instance that has stored at this one's location before; on a server, the one of this home with its name.
        Raises `StorageFailed`."""

    def problems(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        """The problems of databases' data, by their ids. Cheap: it is called for all of them at once."""

    def deep_damage(self, instance: Instance, source: Source, on: Callable[[], None]) -> str:
        """The damage of a database or a snapshot, found by reading all of it; empty if there is none. Programs keep using it.
        `on` is called now and then. Raises StorageFailed if it cannot be read now."""

    def inspect(self, instance: Instance, database: Database) -> Inspection:
        """Look at a database without disturbing it."""
