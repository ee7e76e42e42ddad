"""The health of an instance: whether it answers, and on how many nodes it stores a write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance, Status
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import ReplicationStatus, UsageLimits
from provisioner.operations.documents import Document
from provisioner.system.looking import starting_nothing


def standing(instance: Instance) -> Document:
    """``status`` is connected or error, ``error`` the reason, ``replication`` null if there is only one server, ``limits``
    null if there are none."""
    engine = engine_of(instance)
    with starting_nothing():
        check = engine.look(instance)
        try:
            kept, limits = engine.kept(instance), engine.limits(instance)
        except StorageFailed:  # the check reports the same
            kept = limits = None
    return {
        "status": str(Status.CONNECTED if check.well else Status.ERROR),
        "error": None if check.well else check.text,
        "replication": _replication(kept) if kept is not None else None,
        "limits": _limits(instance, limits) if limits is not None else None,
    }


def lines(found: Document) -> Iterator[str]:
    """The same for people."""
    yield f"status: {found['status']}" + (f": {found['error']}" if found["error"] else "")
    if found["limits"] is not None:
        yield f"each database may use {found['limits']['text']}"
        yield f"trusted extensions: {', '.join(found['limits']['trusted_extensions']) or 'none'}"
    replication = found["replication"]
    if replication is None:
        return
    asked = f", {replication['required']} are required" if replication["required"] else ""
    yield f"replication: an acknowledged write is stored on at least {replication['nodes']} nodes{asked}"
    for warning in replication["warnings"]:
        yield f"  {warning}"
    for standby in replication["standbys"]:
        behind = "" if standby["lag_bytes"] is None else f", {standby['lag_bytes']} bytes behind"
        late = "" if standby["lag_seconds"] is None else f", {standby['lag_seconds'] * 1000:.1f} ms"
        yield f"  {standby['name']}  {standby['address'] or 'local'}  {standby['state']}  {standby['sync']}{behind}{late}"


def _limits(instance: Instance, limits: UsageLimits) -> Document:
    return {
        **asdict(limits),
        "note": limits.note or None,
        "text": limits.text(),
        "trusted_extensions": instance.allowance.extensions,
    }


def _replication(kept: ReplicationStatus) -> Document:
    return {
        "required": kept.wanted,
        "nodes": kept.nodes,
        "problem": kept.problem or None,
        "warnings": list(kept.warnings),
        "standbys": [asdict(standby) for standby in kept.standbys],
    }
