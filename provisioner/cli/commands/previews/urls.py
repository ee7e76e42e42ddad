"""The URLs of timelines on this machine: those of dev servers, and those of apps that provisioner runs."""

from __future__ import annotations

import os

from provisioner.core.connection import TimelineConnection
from provisioner.core.host_names import host_name, label_of
from provisioner.hosting.ports import answers
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home
from provisioner.system.router_address import address


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
