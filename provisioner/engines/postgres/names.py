"""Names of databases and roles on a server, at most 63 bytes. Light: `exec` imports it.

    pv_<instance>_<id>              what apps are connected to; its role has the same name
    pvn_<instance>_<id>             being built beside it; the role of its scrub command has the same name
    pva_<instance>_<id>             archived
    pvs_<instance>_<id>_<snapshot>  one of its snapshots
    pvb_<instance>_<id>_<snapshot>  one that is being made
    pvt_<instance>_<id>_<share>     no database: what a timeline logs in with that shares another's
    pvx_<instance>_<random>         made ahead of need, with its role
    pvm_<instance>_<id>[_…]         closed, because it is being moved to another place; with a snapshot's digits, or archived
    pvr_<instance>                  their owners, if the administrator's own database cannot hold those; see owners.py
    pvo_<instance>_<id>_<random>    closed permanently, because it was moved, or was at the target of a move

Instance is the beginning of its id: several instances, and homes, may share a server. The id, because names then survive
the renaming of a branch, which cannot rename a database that programs are connected to, and because every role can read
the names and the comments of all databases of a server. A comment therefore holds ids only, and starts with NOTE.
"""

from __future__ import annotations

from provisioner.core.ids import DatabaseId, InstanceId, ShareId

LIVE, BESIDE, ARCHIVED, SNAPSHOT, BEGUN, SPARE = "pv", "pvn", "pva", "pvs", "pvb", "pvx"
MOVING, LEFT, SHARER, OWNERS = "pvm", "pvo", "pvt", "pvr"

OURS = "^pv[a-z]?_[0-9a-f]{8}_[0-9a-f]{32}(_|$)"
"""What all of them match, as PostgreSQL has patterns; the names of no people do."""

NOTE = "provisioner:"
"""How a comment on a database begins that may stay. No name of an app or a branch contains a colon."""

KV_GENERATION = 0
"""Generation of the passwords of Deno KV roles: no app gets one, so none is replaced together with an app's tokens."""


def live(instance_id: InstanceId, database_id: DatabaseId) -> str:
    return name(LIVE, instance_id, database_id)


def name(kind: str, instance_id: InstanceId, database_id: DatabaseId, part: str | None = None) -> str:
    """16 digits of a snapshot's id fit: 64 bits, which distinguish those of one database."""
    made = f"{kind}_{instance_id[:8]}_{database_id.replace('-', '')}"
    return made if part is None else f"{made}_{part.replace('-', '')[:16]}"


def of_share(instance_id: InstanceId, database_id: DatabaseId, share_id: ShareId) -> str:
    """The role of a timeline that shares a database."""
    return name(SHARER, instance_id, database_id, share_id)


def id_of(made: str) -> DatabaseId:
    """The database's id, as the registry has it, of a name with the kind and the instance in front."""
    digits = made.split("_")[2]
    return DatabaseId("-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))
