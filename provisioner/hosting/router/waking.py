"""What the gateway asks of the apps' supervisor: which hosts there are, and to have the app of a host run."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Site:
    """A host that the registry knows. `name` is what people call the app's timeline, for example ``shop, branch login``.

    If it is not `public`, a session is needed. A token of the app opens it unless it is of `production`.
    """

    app_id: str
    name: str
    public: bool
    production: bool = False


@dataclass(frozen=True, slots=True)
class AppRunning:
    """The app answers on this port of the loopback address."""

    port: int


@dataclass(frozen=True, slots=True)
class AppFailed:
    """It does not become healthy. `log_tail` is the end of what it printed."""

    reason: str
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class NoSuchApp:
    """There is no such host, or no longer."""


@dataclass(frozen=True, slots=True)
class AppsBusy:
    """As many apps run as may. `retry_after` in seconds."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class AppStopped:
    """A user has stopped it, and it does not start by a request. `start` is the command that starts it."""

    start: str


Woken = AppRunning | AppFailed | AppStopped | NoSuchApp | AppsBusy


class Waker(Protocol):
    """Both calls come from threads of the gateway's, of which there are few, and return at once: within milliseconds."""

    def find(self, host: str) -> Site | None:
        """The site of a host, as the registry has it now; None for one that it does not have."""

    def wake(self, host: str, unreachable: int | None) -> Future[Woken]:
        """Have the app of a host run. All that ask while it starts may be given the same future; it is never canceled.

        At the port `unreachable` nothing took connections just now.
        """
