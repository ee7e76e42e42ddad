"""Lineages of branches that have none yet: an anchor is made when the registry is about to rely on it."""

from __future__ import annotations

from provisioner.core.model import App
from provisioner.git.anchors import make_anchor

_NEW = "?"


def new_lineage(inode: int | None) -> str:
    """In a plan: the branch gets an anchor, if its log is still the file with this inode."""
    return f"{_NEW}{'' if inode is None else inode}"


def lineage_of(app: App, branch: bytes, planned: str) -> str | None:
    """The lineage that a plan says, made if it is a new one; None if the branch's log is another one by now."""
    if not planned.startswith(_NEW):
        return planned
    inode = planned.removeprefix(_NEW)
    return make_anchor(app.git_dir, app.id, branch, int(inode) if inode else None)
