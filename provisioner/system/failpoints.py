"""Named points at which a test can end the process as ``kill -9`` would, to see that nothing is lost.

``arm("archive.moved")`` dies at the first passing, ``arm("archive.moved:3")`` at the third; ``arm("archive.moved!")`` raises
OSError there instead, as a disk that fails would. Never armed, a point costs one comparison.
"""

from __future__ import annotations

import errno
import os

_armed = ""
_left = 0
_raises = False

POINTS = (
    "registry.committing",
    "registry.committed",
    "rotate.intended",
    "rotate.replaced",
    "revoke.recorded",
    "provision.intended",
    "provision.written",
    "provision.renamed",
    "provision.recorded",
    "archive.intended",
    "archive.moved",
    "archive.recorded",
    "recover.intended",
    "recover.moved",
    "recover.recorded",
    "purge.intended",
    "purge.moved",
    "purge.removed",
    "purge.recorded",
    "fork.copied",
    "fork.moved",
    "replace.intended",
    "replace.built",
    "replace.ready",
    "replace.kept",
    "replace.moved",
    "replace.recorded",
    "snapshot.intended",
    "snapshot.made",
    "snapshot.recorded",
    "snapshot.deleting",
    "snapshot.removed",
    "run.started",
    "scrub.intended",
    "scrub.ran",
    "scrub.sealed",
    "hook.intended",
    "hook.ran",
    "hook.recorded",
    "deploy.intended",
    "deploy.snapshot",
    "deploy.checked-out",
    "deploy.ran",
    "deploy.recorded",
    "delete.copied",
    "delete.backed",
    "delete.recorded",
    "undelete.recorded",
    "rename.begun",
    "rename.recorded",
    "move.begun",
    "move.copied",
    "move.intended",
    "move.closed",
    "move.fenced",
    "move.settled",
    "move.renamed",
    "move.placed",
    "move.flipped",
    "move.put-away",
    "move.recorded",
    "move.turned",
    "migrate.begun",
    "migrate.applied",
    "migrate.recorded",
    "follow.intended",
    "follow.key",
    "follow.written",
    "follow.registry",
    "inbox.claimed",
    "postgres.role",
    "postgres.closed",
    "postgres.created",
    "postgres.copied",
    "postgres.owned",
    "hosting.intended",
    "hosting.checked-out",
    "hosting.installed",
    "hosting.compiled",
    "hosting.built",
    "hosting.started",
    "hosting.healthy",
    "hosting.routed",
    "hosting.recorded",
    "hosting.unrouted",
    "hosting.ended",
    "hosting.forgotten",
)


def arm(spec: str) -> None:
    """Arm one point: its name, or ``name:n`` for its n-th passing. Unknown names are an error, not a quiet no-op."""
    global _armed, _left, _raises
    name, _, count = spec.removesuffix("!").partition(":")
    if name not in POINTS:
        raise ValueError(f"no fault point {name!r}; choose one of {', '.join(POINTS)}")
    _armed, _left, _raises = name, int(count or 1), spec.endswith("!")


def point(name: str) -> None:
    global _left
    if name != _armed:
        return
    _left -= 1
    if _left == 0 and _raises:
        raise OSError(errno.EIO, f"injected at {name}")
    if _left == 0:
        os.kill(os.getpid(), 9)
