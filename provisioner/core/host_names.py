"""The host names of apps: ``<branch>.<app>.<domain>``, ``<revision>.<app>.<domain>``, and for production ``<app>.<domain>``.

A branch's label is computed once, and then read from the registry. No two branches have the same: a name that is a label
already is kept, and every other one gets a hash of itself, in a form that no kept name has.
"""

from __future__ import annotations

import os
import re

from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION, SHORT_REVISION, slug

LABEL_LIMIT = 63  # bytes; RFC 1035
DOMAIN = "localhost"
PORT = 4580

_HASH_DIGITS = 12
_KEPT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HASHED = re.compile(rf".*-[0-9a-f]{{{_HASH_DIGITS}}}")
_REVISION = re.compile(r"[0-9a-f]{7,64}")
_HOST = re.compile(
    rf"(?=.{{1,253}}$)[a-z0-9]([a-z0-9-]{{0,{LABEL_LIMIT - 2}}}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?)*"
)


def branch_label(branch: bytes) -> str:
    """The label of a branch: its name, or as much of it as a host name can have, and a hash of it.

    A name that could be a revision's, or another branch's with its hash, gets a hash too.
    """
    name = os.fsdecode(branch)
    if (
        len(branch) <= LABEL_LIMIT
        and _KEPT.fullmatch(name)
        and not _REVISION.fullmatch(name)
        and not _HASHED.fullmatch(name)
    ):
        return name
    from hashlib import sha256

    digest = sha256(branch).hexdigest()[:_HASH_DIGITS]
    readable = slug(name, LABEL_LIMIT - _HASH_DIGITS - 1)
    return f"{readable or 'branch'}-{digest}"


def revision_label(revision: str) -> str:
    """The label of a revision: the beginning of its commit's id."""
    return revision[:SHORT_REVISION]


def label_of(timeline: bytes) -> str:
    """The label of a timeline, by its name: that of its branch or revision; empty for production."""
    if timeline == PRODUCTION:
        return ""
    if timeline.startswith(PREVIEW_PREFIX):
        return revision_label(os.fsdecode(timeline.removeprefix(PREVIEW_PREFIX)))
    return branch_label(timeline.removeprefix(BRANCH_PREFIX))


def host_name(app: str, label: str, domain: str) -> str:
    """The host of a label of an app; of production, whose label is empty, the app's own."""
    return ".".join(part for part in (label, app, domain) if part)


def is_host_name(text: str) -> bool:
    """Is it the name of a host, in lowercase, as a directory may be called?"""
    return _HOST.fullmatch(text) is not None
