"""What the router says of a request that it asks the gateway about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provisioner.core.host_names import is_host_name
from provisioner.hosting.router.names import BYPASS, CLIENT, FAILED, HOST, METHOD, SCHEME, URI

_SAFE_METHODS = ("GET", "HEAD")
_LONGEST_PATH = 8192


@dataclass(frozen=True, slots=True)
class Inquiry:
    """`host` is as it is in the registry; empty if the request's isn't a host name. `following` is the path with its query."""

    host: str
    authority: str
    client: str
    encrypted: bool
    method: str
    following: str
    failed_port: int | None
    cookies: str
    bypass: str
    navigation: bool


def read(scope: Any) -> Inquiry:
    """From the headers, which the router sets, whatever the client says."""
    headers = scope.headers
    authority = (headers.get(HOST.lower()) or "").lower()
    host = authority.rpartition(":")[0] if authority.rpartition(":")[2].isdigit() and ":" in authority else authority
    host = host.removesuffix(".")
    method = headers.get(METHOD.lower()) or ""
    failed = (headers.get(FAILED.lower()) or "").rpartition(":")[2]
    return Inquiry(
        host=host if is_host_name(host) else "",
        authority=authority,
        client=headers.get(CLIENT.lower()) or "",
        encrypted=headers.get(SCHEME.lower()) == "https" or headers.get("x-forwarded-proto") == "https",
        method=method,
        following=safe_path(headers.get(URI.lower()) or "/"),
        failed_port=int(failed) if failed.isdigit() else None,
        cookies="; ".join(value for name, value in headers.items() if name.lower() == "cookie"),
        bypass=headers.get(BYPASS.lower()) or "",
        navigation=method in _SAFE_METHODS and _is_navigation(headers),
    )


def safe_path(text: str) -> str:
    """A path with its query on the same host; ``/`` for anything that a browser could take for another place."""
    plain = text.isascii() and text.isprintable() and "\\" not in text and len(text) <= _LONGEST_PATH
    return text if plain and text.startswith("/") and not text.startswith("//") else "/"


def _is_navigation(headers: Any) -> bool:
    """Does a browser show the answer to a person? Without TLS, browsers say only what they accept."""
    mode = headers.get("sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in (headers.get("accept") or "")
