"""Whatever else is served at the server's address. The server knows what it is asked to do, not what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.options import Options
from provisioner.system.home import Home


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a site may use of the server that it is part of. `log` is called with a level, a message and fields."""

    home: Home
    options: Options
    databases: OpenDatabases
    metrics: Metrics
    log: Callable[..., None]


class MountedApp(Protocol):
    """For the thread of the event loop, which it must not keep from other requests."""

    @property
    def idle(self) -> bool:
        """Is nothing being answered?"""

    async def __call__(self, scope: Any, protocol: Any) -> int:
        """Answer any path that is not the server's own; the status that was answered. Raises ProtocolClosed."""

    def each_second(self, changed: bool) -> None:
        """Told every second whether the registry has changed."""

    def drain(self) -> None:
        """Streams end now."""

    def close(self) -> None:
        """No further request will come."""


MakeSite = Callable[[ServerContext], MountedApp]
