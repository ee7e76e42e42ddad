"""The paths, files, and headers by which Caddy and the gateway know each other."""

from __future__ import annotations

OWN = "/.provisioner"  # paths below it are the router's on every host

ASK, KNOWN = "/ask", "/known"  # paths that only the router itself asks the gateway for
ASK_AGAIN = 570  # a status between the two: this daemon ends, and the next one is to be asked

GATEWAY_SOCKET = "gateway.sock"
ADMIN_SOCKET = "admin.sock"
SESSIONS = "sessions"
DATA = "data"
LOG = "caddy.log"

BYPASS = "X-Provisioner-Bypass"
UPSTREAM = "X-Provisioner-Upstream"
HOST, CLIENT, SCHEME, METHOD, URI, FAILED = (
    f"X-Provisioner-{name}" for name in ("Host", "Client", "Scheme", "Method", "Uri", "Failed")
)
