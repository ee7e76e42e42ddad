"""What the commands of an app may reach: decided here for pre-deploy and scrub commands, enforced by `provisioner.runs`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import provisioner
from provisioner.core.connection import FileLocation, KvEndpoint, PostgresEndpoint
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.engines.protocol.location import FOR_ROOT
from provisioner.registry.store import Registry
from provisioner.runs import landlock
from provisioner.runs.process import Confined
from provisioner.runs.sandbox import Sandbox, programs, system
from provisioner.runs.workplace import Workplace
from provisioner.system.home import inherited

# For programs that import it: Python has to list the directory that it is in. Installed, that is among Python's own.
_CODE = os.path.dirname(os.path.dirname(os.path.abspath(provisioner.__file__)))
_PYTHON = (sys.prefix, sys.base_prefix, *((_CODE,) if os.path.exists(os.path.join(_CODE, "pyproject.toml")) else ()))

OPEN = "this command can read the home and all that its user can read"


def confined(
    registry: Registry,
    app: App,
    place: Workplace,
    ways: Sequence[KvEndpoint | PostgresEndpoint],
    words: Sequence[str],
    *,
    listen: tuple[int, ...] = (),
    connect: tuple[int, ...] | None = None,
    writable: Sequence[str] = (),
) -> Confined:
    """What a command of the app may reach, whose databases are reached in these ways. Raises ProvisionerError.

    It may `listen` on these TCP ports and `connect` to those and to its databases' (None: to any), and write to directories
    besides its own.
    """
    files = [way.path for way in ways if isinstance(way, KvEndpoint) and way.path]
    if app.run_as and files:
        raise ProvisionerError(
            f"the commands of {app.slug} run as {app.run_as}, who cannot open the file {files[0]}",
            f"Connect by URL ('provisioner assign --connect url'), or run: provisioner app set {app.slug} --no-run-as",
        )
    if not app.sandbox or not landlock.abi():
        return Confined(user=app.run_as, home=place.home if app.run_as else "", warning="" if app.run_as else _why(app))
    hosts = [way.server.get("PGHOST", "") for way in ways if isinstance(way, PostgresEndpoint)]
    certificates = [
        way.server["PGSSLROOTCERT"]
        for way in ways
        if isinstance(way, PostgresEndpoint) and "PGSSLROOTCERT" in way.server
    ]
    path = inherited().get("PATH", os.defpath)
    secret = secret_paths(registry)
    private = (*secret, *_repositories(registry))
    sandbox = Sandbox(
        readable=(
            *system(private),
            *programs(path, _PYTHON, secret),
            *certificates,
            *(word for word in words if os.path.isabs(word) and os.path.isfile(word)),
            *app.allow_read,
        ),
        writable=(place.root, *writable, *app.allow_write),
        databases=tuple(os.path.dirname(os.path.realpath(file)) for file in files),
        listen=listen,
        connect=None if connect is None else (*connect, *_ports(ways)),
        unix_sockets=app.unix_sockets or any(host.startswith("/") for host in hosts),
        hidden=private,
    )
    return Confined(sandbox, app.run_as, place.home)


def _ports(ways: Sequence[KvEndpoint | PostgresEndpoint]) -> set[int]:
    """The TCP ports on which databases are reached."""
    found = set()
    for way in ways:
        if isinstance(way, PostgresEndpoint):
            found |= {int(port) for port in way.server.get("PGPORT", "5432").split(",") if port}
        elif way.url:
            url = urlsplit(way.url)
            found.add(url.port or (443 if url.scheme == "https" else 80))
    return found


def secret_paths(registry: Registry) -> tuple[str, ...]:
    """What no command may reach, whatever its app allows: the home, and where databases are stored."""
    stored = [
        place.location
        for each in registry.instances()
        for place in (each, each.move, each.left)
        if place is not None and isinstance(place.location, FileLocation)
    ]
    return (registry.home.path, FOR_ROOT, *stored)


def _repositories(registry: Registry) -> tuple[str, ...]:
    """All repositories with their checkouts."""
    directories = [os.fsdecode(app.git_dir) for app in registry.apps(removed=True)]
    return tuple(os.path.dirname(each) if os.path.basename(each) == ".git" else each for each in directories)


def described(app: App) -> tuple[bool, str]:
    """Are the app's commands kept out of the home, and a sentence about what does that."""
    ways = []
    version = landlock.abi() if app.sandbox else 0
    if version:
        ways.append(f"confined by Landlock (ABI {version})")
        if left := landlock.missing(version):
            ways.append(f"this kernel does not refuse {', '.join(left)}")
    if app.run_as:
        ways.append(f"run as {app.run_as}")
    return bool(version or app.run_as), "; ".join(ways) or f"not confined: {_why(app)}"


def _why(app: App) -> str:
    if not app.sandbox:
        return f"{OPEN}, because its app has no sandbox. To change that: provisioner app set {app.slug} --sandbox"
    return f"{OPEN}, because this kernel has no Landlock. Run it as another user: provisioner app set {app.slug} --run-as USER"
