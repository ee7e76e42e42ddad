"""Starting a built revision on its own port, in its sandbox, until it answers."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from provisioner.core.errors import ProvisionerError
from provisioner.core.hosting import MOST_PROCESSES, Deployment
from provisioner.hosting.deployments.building import cache_for, must_be_confined
from provisioner.hosting.deployments.commands import commands_of
from provisioner.hosting.deployments.hosted_timeline import (
    OF_REVISION,
    HostedTimeline,
    ReachedDatabases,
    app_log,
    cache_variables,
    reach,
    revision_variables,
    work_directory,
)
from provisioner.hosting.deployments.sockets import belongs_to, listeners
from provisioner.hosting.ports import answers, free_port, is_free
from provisioner.hosting.routes import LOOPBACK
from provisioner.reconcile.changes.command_access import confined
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.process import Command, last_words, shell
from provisioner.runs.service import Service
from provisioner.runs.supervisors import SpareSupervisors
from provisioner.system import failpoints
from provisioner.system.home import inherited
from provisioner.system.router_address import RouterAddress

START_SECONDS = 60.0  # until it answers
STOP_SECONDS = 10.0  # that an app has to end when it is asked to
HEALTH_SECONDS = 5.0  # for one answer of a health check
LOOK_SECONDS = 0.005
SURE_LOOKS = 20  # that show another program's socket at its port: a process may come or go during one
OTHER_PORTS = 3  # that are tried if other programs are faster
OUTBOUND = (53, 80, 443)  # ports that an app may connect to, besides its databases' and its own
TELEMETRY = "OTEL_"


@dataclass(frozen=True, slots=True)
class RunningApp:
    """A process of a deployment that answers on `port` of this machine. ``open_to_all``: other machines can connect to it,
    too. ``environment`` is a digest of what says how its timeline's databases are reached, and of the app's own variables."""

    deployment_id: str
    revision: str
    service: Service
    port: int
    open_to_all: bool
    environment: str


def start(
    registry: Registry,
    hosted: HostedTimeline,
    deployment: Deployment,
    router: RouterAddress,
    spare: SpareSupervisors,
    stop: Callable[[], bool],
    *,
    deploying: bool,
) -> RunningApp:
    """Start it and wait until it is healthy. Raises ProvisionerError if it does not become so; nothing of it runs then."""
    taken = set[int]()
    while True:
        wanted, owner = deployment.port, f"{registry.home.path} {deployment.id}"
        usable = wanted is not None and wanted not in taken and is_free(wanted)
        port = wanted if wanted is not None and usable else free_port(owner, taken)
        try:
            return _start_at(port, registry, hosted, deployment, router, spare, stop, deploying=deploying)
        except ProvisionerError:  # it ended, or was not healthy in time
            if len(taken) >= OTHER_PORTS or stop() or not listeners(port):
                raise
            taken.add(port)  # another program was faster, which a look at the port before a start cannot rule out


def _start_at(
    port: int,
    registry: Registry,
    hosted: HostedTimeline,
    deployment: Deployment,
    router: RouterAddress,
    spare: SpareSupervisors,
    stop: Callable[[], bool],
    *,
    deploying: bool,
) -> RunningApp:
    found = reach(registry, hosted, deploying=deploying)
    service = _started(registry, hosted, deployment, router, spare, port, found)
    try:
        failpoints.point("hosting.started")
        open_to_all = _wait(registry, hosted, deployment, service, port, stop)
        failpoints.point("hosting.healthy")
        if open_to_all and not router.everyone and not hosted.command.public:
            raise ProvisionerError(
                f"it listens on every address of this machine, on port {port}, so anyone could reach it without signing in",
                f"Have it listen on {LOOPBACK}, which the variable HOST says, or make the app public",
            )
    except BaseException:
        service.stop()
        raise
    return RunningApp(deployment.id, deployment.revision, service, port, open_to_all, digest(found))


def digest(found: ReachedDatabases) -> str:
    """Tells one environment of a timeline from another, and data from what has replaced it. A push changes neither: the
    variables that say which revision runs are left out."""
    reached = sorted((name, value) for name, value in found.variables.items() if name not in OF_REVISION)
    text = json.dumps([reached, sorted(found.replaced.items())])
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _started(
    registry: Registry,
    hosted: HostedTimeline,
    deployment: Deployment,
    router: RouterAddress,
    spare: SpareSupervisors,
    port: int,
    found: ReachedDatabases,
) -> Service:
    place = workplace.place(registry.home, deployment.id, hosted.app.run_as)
    directory = work_directory(place, hosted.command)
    words = shell(commands_of(hosted.command, directory).start)
    cache = cache_for(registry, hosted)
    connect = (*OUTBOUND, port)
    access = confined(
        registry,
        hosted.app,
        place,
        found.ways,
        words,
        listen=(port,),
        connect=connect,
        writable=(cache,) if cache else (),
    )
    must_be_confined(hosted, access)
    own = {
        "PORT": str(port),
        "HOST": LOOPBACK,
        "DENO_SERVE_ADDRESS": f"tcp:{LOOPBACK}:{port}",
        "PROVISIONER_URL": router.url(hosted.host(router.domain)),
    }
    telemetry = {name: value for name, value in inherited().items() if name.startswith(TELEMETRY)}
    if telemetry:
        about = f"deployment.environment.name={os.fsdecode(hosted.timeline.name)},service.version={deployment.revision}"
        given = telemetry.get("OTEL_RESOURCE_ATTRIBUTES", "")
        telemetry |= {
            "OTEL_SERVICE_NAME": telemetry.get("OTEL_SERVICE_NAME", hosted.app.slug),
            "OTEL_RESOURCE_ATTRIBUTES": f"{given},{about}" if given else about,
        }
    caches = cache_variables(cache) if cache else {}
    command = Command(
        words,
        directory,
        0,
        {**telemetry, **found.variables, **revision_variables(deployment), **caches, **own},
        found.secrets,
        access,
        hosted.command.memory_bytes,
        processes=MOST_PROCESSES,
    )
    return Service(deployment.id, command, app_log(registry.home, deployment.id), spare)


def _wait(
    registry: Registry,
    hosted: HostedTimeline,
    deployment: Deployment,
    service: Service,
    port: int,
    stop: Callable[[], bool],
) -> bool:
    """Wait until it answers. Can other machines connect to it? Raises ProvisionerError."""
    log = app_log(registry.home, deployment.id)
    deadline = time.monotonic() + START_SECONDS
    foreign = 0
    problem = f"nothing of it listened on port {port}, which the variable PORT says"
    while time.monotonic() < deadline and not stop():
        if (why := service.ended(LOOK_SECONDS)) is not None:
            said = last_words(log)
            raise ProvisionerError(f"it ended before it was healthy: {why}{f' ({said})' if said else ''}")
        if not answers(port):  # asked often, so not by reading the list of all sockets
            continue
        mine = [each for each in listeners(port) if belongs_to(each, service.pid)]
        if not mine:
            foreign += 1
            problem = f"another program listens on its port {port}"
            if foreign >= SURE_LOOKS:
                raise ProvisionerError(f"{problem}, which the variable PORT says")
            continue
        problem = _unhealthy(port, hosted.command.health) if hosted.command.health else ""
        if not problem:
            return any(not each.loopback for each in mine)
    if stop():
        raise ProvisionerError("it was stopped before it answered")
    raise ProvisionerError(f"it was not healthy within {START_SECONDS:g} s: {problem}")


def _unhealthy(port: int, path: str) -> str:
    """What is wrong with the answer to a health check; empty if it succeeds."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", path, headers={"User-Agent": "provisioner", "Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {path}: {type(error).__name__}: {error}"
    finally:
        with suppress(OSError):
            connection.close()
    return "" if 200 <= status < 400 else f"GET {path} was answered with {status}"
