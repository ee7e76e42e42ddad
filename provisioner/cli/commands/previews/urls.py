"""The URLs of timelines on this machine: those of dev servers, and those of apps that provisioner runs."""

from __future__ import annotations

import os

from provisioner.core.connection import TimelineConnection
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION
from provisioner.hosting.dev_servers import answers
from provisioner.hosting.host_names import branch_label, host_name, revision_label
from provisioner.hosting.router_address import address
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home


def label_of(timeline: bytes) -> str:
    """The label of a timeline's host name: that of its branch or revision; empty for production."""
    if timeline == PRODUCTION:
        return ""
    if timeline.startswith(PREVIEW_PREFIX):
        return revision_label(os.fsdecode(timeline.removeprefix(PREVIEW_PREFIX)))
    return branch_label(timeline.removeprefix(BRANCH_PREFIX))


def host_of(connection: TimelineConnection, domain: str) -> str:
    return host_name(connection.app_slug, label_of(os.fsencode(connection.timeline)), domain)


def router_answers(home: Home) -> bool:
    """Does the router of this home run, and take connections? The port may be another program's."""
    path = os.path.join(home.path, "router", "caddy.lock")  # held by it as long as it runs
    if not os.path.exists(path):
        return False
    lock = try_lock(path)
    if lock is not None:
        os.close(lock)
        return False
    return answers(address(home).port)
