"""The rows of the main tables: which columns each value is stored in, and how they become it."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

from provisioner.core.errors import StorageFailed
from provisioner.core.model import (
    App,
    Copies,
    Database,
    DatabaseState,
    Hold,
    ImpossibleState,
    Intent,
    Status,
    Timeline,
    state_of,
)
from provisioner.registry.errors import CORRUPT
from provisioner.registry.schema.row_type import RowType, one_of, one_or_none, texts


def possible_state(database_id: object, *columns: Any) -> DatabaseState:
    """The state of a database with these columns. Raises StorageFailed if no database can be in it: the registry is damaged."""
    try:
        return state_of(*columns)
    except ImpossibleState as error:
        raise StorageFailed(f"the registry is corrupt: database {database_id} has {error}", CORRUPT) from error


TIMELINE = RowType(
    Timeline,
    "timeline",
    (
        *("id", "app_id", "branch", "production", "revision", "created_at", "gone_at", "rename_mark", "preview"),
        *("protected", "expire_ms", "active_at", "deployed", "failure", "deployed_by", "lineage", "doubt"),
    ),
    parse={"production": bool, "preview": bool, "protected": bool, "sharing": bool},
    computed={"sharing": "exists (select 1 from share where share.timeline_id = timeline.id)"},
)
_STATE = ("status", "intent", "error", "attempts", "retry_at", "hold", "archived_at", "purge_at")
DATABASE = RowType(
    Database,
    "database",
    (
        *("id", "timeline_id", "instance_id", "name"),
        *_STATE,
        *("created_at", "connected_at", "forked_from", "forked_at", "fork_version"),
        *("forked_snapshot", "token_generation", "moved", "renewals", "renewed"),
    ),
    parse={"status": one_of(Status), "intent": one_or_none(Intent), "hold": one_or_none(Hold), "moved": bool},
    joined=("state", _STATE, possible_state),
)
APP = RowType(
    App,
    "app",
    (
        *("id", "slug", "git_dir", "production", "grace_ms", "retention_ms", "created_at", "expire_ms", "pre_deploy"),
        *("pre_deploy_from", "pre_deploy_ms", "snapshot_revisions", "run_as", "sandbox", "unix_sockets", "allow_read"),
        *("allow_write", "pre_deploy_copies", "pre_deploy_inputs", "max_branches", "checkout_files", "checkout_bytes"),
    ),
    parse={
        **dict.fromkeys(("sandbox", "unix_sockets"), bool),
        **dict.fromkeys(("allow_read", "allow_write", "pre_deploy_inputs"), texts),
        "pre_deploy_copies": one_of(Copies),
    },
    stored=dict.fromkeys(("allow_read", "allow_write", "pre_deploy_inputs"), json.dumps),
)
LIMITS = ("connections", "temp_bytes", "statement_ms", "trusted_extensions")
PLACES = ("id", "slug", "engine", "location", "created_at", "url", "require_quorum")
_OF_MOVES = {
    **{f"move_{name}": ("instance_move", name) for name in ("location", "url", "require_quorum")},
    **{f"left_{name}": ("instance_left", name) for name in ("location", "url")},
}
INSTANCE = ", ".join(
    [
        *(f"instance.{name}" for name in (*PLACES, *LIMITS)),
        *(
            f"(select {column} from {table} where {table}.instance_id = instance.id) as {name}"
            for name, (table, column) in _OF_MOVES.items()
        ),
    ]
)
instance_values = attrgetter(*PLACES, *(f"allowance.{name}" for name in LIMITS))
