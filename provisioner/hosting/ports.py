"""TCP ports of this machine for apps and dev servers.

They are below those that the system gives to outgoing connections: no other program gets one by chance during a restart.
"""

from __future__ import annotations

import os
import socket
from hashlib import sha256

from provisioner.core.errors import ProvisionerError
from provisioner.hosting.routes import LOOPBACK

FIRST_PORT, PORTS = 20_000, 10_000


def answers(port: int, address: str = LOOPBACK) -> bool:
    """Does something take connections at this port of this machine?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((address, port)) == 0
    except OSError:  # a machine without IPv6
        return False


def free_port(owner: str, taken: set[int]) -> int:
    """A port of the owner's own, which is a host in a home, the same each time if it is free: browsers and sign-in services
    remember it, and another home on this machine gets another one."""
    first = int.from_bytes(sha256(os.fsencode(owner)).digest()[:4])
    for number in range(PORTS):
        port = FIRST_PORT + (first + number) % PORTS
        if port not in taken and is_free(port):
            return port
    raise ProvisionerError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free", "Stop what uses them")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return not answers(port, "::1")
