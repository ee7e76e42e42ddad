"""What the server tells of itself: whether it lives, whether it takes requests, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from provisioner.connect.protocol.http_errors import METHOD_NOT_ALLOWED, NOT_FOUND, UNAVAILABLE, Refused
from provisioner.connect.server.auth import Doorman, address_of
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.options import is_loopback
from provisioner.system.service_thread import gone, states

HEALTH: Final = "/healthz"
NAMES: Final = (HEALTH, "/readyz", "/metrics")

_TEXT: Final = [("content-type", "text/plain; charset=utf-8")]
_METRICS: Final = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]

Gauges = Mapping[str, tuple[str, float]]


class Pages:
    """`gauges` tells the present numbers."""

    def __init__(self, doorman: Doorman, metrics: Metrics, gauges: Callable[[], Gauges]) -> None:
        self._doorman = doorman
        self._metrics = metrics
        self._gauges = gauges

    def answer(self, scope: Any, protocol: Any, name: str) -> int:
        """The status that was answered. Raises Refused."""
        if name not in NAMES:
            raise Refused(NOT_FOUND, "there is nothing here")
        if scope.method not in ("GET", "HEAD"):
            raise Refused(METHOD_NOT_ALLOWED, "this takes a GET")
        if name == HEALTH and (missing := gone()):
            raise Refused(UNAVAILABLE, f"threads are gone: {', '.join(missing)}. Restart the server")
        if name != "/metrics":
            protocol.response_str(200, _TEXT, "ok\n")
            return 200
        near = is_loopback(address_of(scope.client)) and "x-forwarded-for" not in scope.headers
        if not near:
            self._doorman.must_administer(scope)
        protocol.response_str(200, _METRICS, self._metrics.text(self._gauges(), states()))
        return 200
