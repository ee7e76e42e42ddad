"""The server's reports: whether it is alive, whether it accepts requests, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from provisioner.connect.protocol.http_errors import METHOD_NOT_ALLOWED, NOT_FOUND, UNAVAILABLE, Refused
from provisioner.connect.server.auth import Authenticator, address_of
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.options import is_loopback
from provisioner.system.service_thread import gone, states

HEALTH: Final = "/healthz"
NAMES: Final = (HEALTH, "/readyz", "/metrics")

_TEXT: Final = [("content-type", "text/plain; charset=utf-8")]
_METRICS: Final = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]

Gauges = Mapping[str, tuple[str, float]]


class Readiness:
    """The server has `started` when it accepts connections and apps know of a server of this home; `told` returns whether they
    still do."""

    def __init__(self, told: Callable[[], bool]) -> None:
        self.started = False
        self._told = told

    def problem(self, page: str) -> str:
        """Why one of the two pages does not say that all is well; empty where it does."""
        if not self.started:
            return "the server is starting"
        if page == HEALTH:
            missing = gone()
            return f"threads are gone: {', '.join(missing)}. Restart the server" if missing else ""
        return "" if self._told() else "apps know of no server of this home"


class HealthPages:
    """`gauges` tells the present numbers."""

    def __init__(
        self, authenticator: Authenticator, metrics: Metrics, gauges: Callable[[], Gauges], readiness: Readiness
    ) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._gauges = gauges
        self._readiness = readiness

    def answer(self, scope: Any, protocol: Any, name: str) -> int:
        """The status that was answered. Raises Refused."""
        if name not in NAMES:
            raise Refused(NOT_FOUND, "there is nothing here")
        if scope.method not in ("GET", "HEAD"):
            raise Refused(METHOD_NOT_ALLOWED, "this takes a GET")
        if name != "/metrics":
            if problem := self._readiness.problem(name):
                raise Refused(UNAVAILABLE, problem)
            protocol.response_str(200, _TEXT, "ok\n")
            return 200
        near = is_loopback(address_of(scope.client)) and "x-forwarded-for" not in scope.headers
        if not near:
            self._authenticator.must_administer(scope)
        protocol.response_str(200, _METRICS, self._metrics.text(self._gauges(), states()))
        return 200
