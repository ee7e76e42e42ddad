"""A timeline whose app is built and started, and where what belongs to it is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.connection import KvEndpoint, PostgresEndpoint, TimelineConnection, variables
from provisioner.core.errors import NotResolved
from provisioner.core.host_names import host_name, label_of
from provisioner.core.hosting import Deployment, RunCommand
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Timeline
from provisioner.core.redaction import Secret
from provisioner.engines.endpoints import all_reached
from provisioner.registry.exec_lookup import Resolver
from provisioner.registry.redaction import secrets_of
from provisioner.registry.snapshots import replaced_counts
from provisioner.registry.store import Registry
from provisioner.runs.workplace import Workplace
from provisioner.system.home import DIRECTORY_MODE, Home


@dataclass(frozen=True, slots=True)
class HostedTimeline:
    """An app's timeline with how its app is run."""

    app: App
    timeline: Timeline
    command: RunCommand

    @property
    def label(self) -> str:
        """Of its host name: empty for production."""
        return label_of(self.timeline.name)

    def host(self, domain: str) -> str:
        return host_name(self.app.slug, self.label, domain)


OF_REVISION = ("DENO_DEPLOYMENT_ID", "DENO_DEPLOY_BUILD_ID")
"""Variables that say which revision a process runs."""


@dataclass(frozen=True, slots=True)
class ReachedDatabases:
    """How a timeline's databases are reached, with the variables that say so, and what must not be printed.

    ``replaced``: how often the data of each was replaced.
    """

    ways: Sequence[KvEndpoint | PostgresEndpoint]
    variables: dict[str, str]
    secrets: tuple[Secret, ...]
    replaced: dict[DatabaseId, int]


def reach(registry: Registry, hosted: HostedTimeline, *, deploying: bool) -> ReachedDatabases:
    """Of the timeline's databases now. `deploying`: also before the pre-deploy command has run. Raises NotResolved."""
    resolver = Resolver(registry.home)
    found = resolver.app(app_id=hosted.app.id)
    if found is None:
        raise NotResolved(f"app {hosted.app.slug!r} was removed", "Register it again: provisioner app add")
    connection: TimelineConnection = resolver.connection(found, timeline=hosted.timeline.name, deploying=deploying)
    ways = all_reached(registry.home, connection)
    credentials = [Secret(each) for way in ways for each in way.credentials()]
    counts, used = replaced_counts(registry, hosted.timeline.id), {each.database_id for each in connection.databases}
    return ReachedDatabases(
        ways,
        variables(connection, ways),
        (*secrets_of(registry, hosted.app), *credentials),
        {database_id: count for database_id, count in counts.items() if database_id in used},
    )


def log_directory(home: Home) -> str:
    return os.path.join(home.log, "apps")


def build_log(home: Home, deployment_id: str) -> str:
    return os.path.join(log_directory(home), f"{deployment_id}.build.log")


def app_log(home: Home, deployment_id: str) -> str:
    """What the app prints; the log before it, if that was full, has the name with `output.OLDER` at its end."""
    return os.path.join(log_directory(home), f"{deployment_id}.log")


def work_directory(place: Workplace, command: RunCommand) -> str:
    """Where in the checkout the commands run. Raises NotResolved if the revision has no such directory."""
    directory = os.path.realpath(os.path.join(place.checkout, command.directory))
    inside = os.path.commonpath([directory, os.path.realpath(place.checkout)]) == os.path.realpath(place.checkout)
    if not inside or not os.path.isdir(directory):
        raise NotResolved(
            f"the revision has no directory {command.directory!r}", "Correct it: provisioner app run --directory DIR"
        )
    return directory


def cache_of(home: Home, timeline_id: str, source: str = "") -> str:
    """A timeline's own directory for what its installers download. A new one starts as a copy of that of the timeline
    `source`: of production, whose code is trusted, and never the other way."""
    path = os.path.join(home.work, f"cache-{timeline_id}")
    if not os.path.isdir(path):
        os.makedirs(home.work, mode=DIRECTORY_MODE, exist_ok=True)
        origin = os.path.join(home.work, f"cache-{source}")
        if source and source != timeline_id and os.path.isdir(origin):
            shutil.rmtree(f"{path}.new", ignore_errors=True)  # of a copy that was cut off
            copy = ["cp", "-a", "--reflink=auto", "--", origin, f"{path}.new"]
            if subprocess.run(copy, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                os.rename(f"{path}.new", path)
                return path
            shutil.rmtree(f"{path}.new", ignore_errors=True)
        os.mkdir(path, DIRECTORY_MODE)
    return path


def remove_cache(home: Home, timeline_id: str) -> None:
    shutil.rmtree(os.path.join(home.work, f"cache-{timeline_id}"), ignore_errors=True)


def cache_variables(cache: str) -> dict[str, str]:
    """What has the usual installers keep their downloads there."""
    return {
        "DENO_DIR": os.path.join(cache, "deno"),
        "XDG_CACHE_HOME": os.path.join(cache, "xdg"),
        "PIP_CACHE_DIR": os.path.join(cache, "pip"),
        "UV_CACHE_DIR": os.path.join(cache, "uv"),
        "npm_config_cache": os.path.join(cache, "npm"),
    }


def revision_variables(deployment: Deployment) -> dict[str, str]:
    """What Deno Deploy says to an app of its revision."""
    return {"DENO_DEPLOY": "true", **dict.fromkeys(OF_REVISION, deployment.revision)}
