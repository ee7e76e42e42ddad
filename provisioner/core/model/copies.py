"""Copies of a database as it was, and the replacement of its data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import DatabaseId, SnapshotId


class SnapshotState(StrEnum):
    """Whether a snapshot's data is complete; the next reconcile finds those that are being created or deleted."""

    MAKING = "making"
    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"


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
