"""The checks of other processes: the daemon, the server, and what holds the registry."""

from __future__ import annotations

import os
import sqlite3

from provisioner.core.errors import ProvisionerError
from provisioner.daemon.hook_server import threads_of
from provisioner.daemon.worker import daemon_runs
from provisioner.engines.server_endpoint import served
from provisioner.registry.errors import corrupt, refusal
from provisioner.system.file_lock import held_by
from provisioner.system.home import Home

PATIENCE_SECONDS = 2.0
SERVER_SECONDS = 10.0

Finding = tuple[str, bool, str]
"""What was checked, whether it is well, and a sentence with its state and what to do."""


def registry_lock(home: Home) -> Finding:
    """Whether the registry is intact and can be written to."""
    connection = sqlite3.connect(home.registry, timeout=PATIENCE_SECONDS, isolation_level=None)
    try:
        answer = connection.execute("pragma quick_check").fetchone()[0]
        if answer != "ok":
            return "registry", False, str(corrupt(home, answer))
        connection.execute("begin immediate")
        connection.execute("rollback")
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            return "registry", False, str(refusal(home, error))
        holders = held_by(home.registry, home.registry + "-shm") or "another process"
        text = f"{holders} has locked {home.registry} for {PATIENCE_SECONDS:.0f} s, and nothing is provisioned"
        return "registry", False, f"{text}. Wait for it, or end it: the registry survives that"
    finally:
        connection.close()
    return "registry", True, home.registry


def daemon_state(home: Home) -> Finding:
    """Whether a daemon runs and answers where hooks look for it."""
    pid, path = _announced(home)
    try:
        runs = daemon_runs(home)
    except ProvisionerError as error:
        return "daemon", False, str(error)
    restart = "systemctl restart provisioner, or run 'provisioner watch'"
    if runs:
        if not pid:
            return "daemon", True, "starting or stopping"
        try:
            missing = [thread.name for thread in threads_of(path) if not thread.alive]
        except TimeoutError:
            return "daemon", False, f"process {pid} hangs, and each push waits for it. Restart it: {restart}"
        except OSError:
            text = f"process {pid} runs but does not answer at {path}, so each push does its own work"
            return "daemon", False, f"{text}. Restart it: {restart}"
        if missing:
            text = f"process {pid} runs, but these threads have ended: {', '.join(missing)}. Their work is not done"
            return "daemon", False, f"{text}. Restart it: {restart}"
        return "daemon", True, f"running, process {pid}"
    if pid:
        text = f"process {pid} was killed and left {home.daemon} behind; hooks and 'provisioner reconcile' do the work"
        return "daemon", False, f"{text}. Start it again: {restart}; or, if you want no daemon, delete that file"
    left = os.path.join(home.path, "daemon.sock")
    stale = f" (an earlier one left {left}, which is harmless)" if os.path.lexists(left) else ""
    return "daemon", True, f"not running: without it, hooks and 'provisioner reconcile' do the work{stale}"


def server_state(home: Home) -> Finding:
    """Whether a server runs and is ready for requests."""
    found = served(home)
    if found is None and os.path.exists(home.server):
        text = f"it was killed and left {home.server} behind; until it is back, apps in mode auto open the files"
        return (
            "server",
            False,
            f"{text}. Start it again: 'provisioner serve'; or, if you want no server, delete that file",
        )
    if found is None:
        return "server", True, "not running: apps in mode auto open the files"
    pid, base, near = found
    for page in ("/readyz", "/healthz"):
        if problem := _problem(near, page):
            return "server", False, f"process {pid} runs, but {near}{page} {problem}. Read its log, and restart it"
    return "server", True, f"running at {base}, process {pid}"


def _problem(base: str, page: str) -> str:
    """The problem that a page of a server reports; empty if there is none. It runs without verifying the certificate."""
    import http.client
    import ssl
    from urllib.parse import urlsplit

    address = urlsplit(base)
    host = address.hostname or ""
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False  # no secret is sent, and the certificate may be for a proxy's name
        unverified.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, address.port, timeout=SERVER_SECONDS, context=unverified)
    else:
        connection = http.client.HTTPConnection(host, address.port, timeout=SERVER_SECONDS)
    try:
        connection.request("GET", f"{address.path}{page}")
        answer = connection.getresponse()
        said = answer.read(200).decode(errors="replace").strip()
        return "" if answer.status == 200 else f"answers {answer.status} {said}"
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer: {error}"
    finally:
        connection.close()


def _announced(home: Home) -> tuple[str, str]:
    """Process id and socket that the daemon recorded; empty if there is no record."""
    if not os.path.exists(home.daemon):
        return "", ""
    with open(home.daemon, errors="surrogateescape") as file:
        pid, _, rest = file.read().partition(" ")
    return pid, rest.partition(" ")[2].rstrip("\n")
