"""The certificates that the router gets for hosts: which it could not get, and those of hosts that are gone.

Caddy keeps each in ``data/certificates/<authority>/<host>/``, and says in its log what an authority refused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

from provisioner.core.host_names import is_host_name
from provisioner.hosting.router.names import DATA, LOG
from provisioner.system.home import Home

_LATEST = 1 << 20  # bytes of the log that are read
_REFUSED = "could not get certificate from issuer"
_LONGEST_REASON = 300


def refused(home: Home) -> dict[str, str]:
    """The hosts that have no certificate, or an old one, because their authority refused it: why, the last time."""
    found: dict[str, tuple[float, str]] = {}
    for line in _log_lines(os.path.join(home.path, "router", LOG)):
        try:
            entry = json.loads(line)
            if entry.get("msg") == _REFUSED:
                found[str(entry["identifier"])] = float(entry["ts"]), str(entry["error"])[:_LONGEST_REASON]
        except (ValueError, KeyError, TypeError, AttributeError):  # a line of which the beginning was not read
            continue
    issued = {host: _issued_at(path, host) for path, host in _kept(home)}
    return {host: why for host, (at, why) in found.items() if at > issued.get(host, 0.0)}


def remove_unknown(home: Home, knows: Callable[[str], bool]) -> None:
    """Remove the certificates of hosts that are gone."""
    for path, host in _kept(home):
        if is_host_name(host) and _issued_at(path, host) and not knows(host):
            shutil.rmtree(path, ignore_errors=True)


def _kept(home: Home) -> list[tuple[str, str]]:
    """The directory of each host's certificate, and the host."""
    found = []
    top = os.path.join(home.path, "router", DATA, "certificates")
    for authority in _names(top):
        found += [(os.path.join(top, authority, host), host) for host in _names(os.path.join(top, authority))]
    return found


def _issued_at(path: str, host: str) -> float:
    """When the host got its certificate (s); 0 if it has none, or the router removes it at this moment."""
    try:
        return os.path.getmtime(os.path.join(path, f"{host}.crt"))
    except (FileNotFoundError, NotADirectoryError):
        return 0.0


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _log_lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LATEST))
            return file.read(_LATEST).splitlines()
    except FileNotFoundError:
        return []
