"""The words of the design as frozen values. No I/O. Times are whole milliseconds since 1970, UTC."""

from provisioner.core.model.app import PRE_DEPLOY_MS, App, ConnectMode, Context, Copies, Scrub, detached
from provisioner.core.model.copies import Replacement, Snapshot, SnapshotState
from provisioner.core.model.database import NO_SHARE, Database, Share
from provisioner.core.model.database_state import (
    Archived,
    Connected,
    DatabaseState,
    Hold,
    ImpossibleState,
    Intent,
    Provisioning,
    Purged,
    Status,
    StepFailure,
    Unusable,
    state_of,
)
from provisioner.core.model.instance import Instance, InstanceMove, LeftStorage
from provisioner.core.model.organization import Organization
from provisioner.core.model.run import Run, RunState
from provisioner.core.model.timeline import Timeline, deploy_status, timeline_status
from provisioner.core.model.token import Scope, Token

__all__ = [
    "NO_SHARE",
    "PRE_DEPLOY_MS",
    "App",
    "Archived",
    "ConnectMode",
    "Connected",
    "Context",
    "Copies",
    "Database",
    "DatabaseState",
    "Hold",
    "ImpossibleState",
    "Instance",
    "InstanceMove",
    "Intent",
    "LeftStorage",
    "Organization",
    "Provisioning",
    "Purged",
    "Replacement",
    "Run",
    "RunState",
    "Scope",
    "Scrub",
    "Share",
    "Snapshot",
    "SnapshotState",
    "Status",
    "StepFailure",
    "Timeline",
    "Token",
    "Unusable",
    "deploy_status",
    "detached",
    "state_of",
    "timeline_status",
]
