"""The server's options, and their validation."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from provisioner.core.errors import UsageError

_PKCS8: Final = b"-----BEGIN PRIVATE KEY-----"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told apart, not bound


@dataclass(frozen=True, slots=True)
class Options:
    """At most `connections` are open at a time, and `per_address` of one address (None: three quarters of them). At most
    `databases` are open; None: as many as the limit of open files allows. `beside`: it may run beside another server."""

    host: str = "127.0.0.1"
    port: int = 4512
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure_bind: bool = False
    public_url: str | None = None
    log_all: bool = False
    connections: int = 4096
    per_address: int | None = None
    databases: int | None = None
    beside: bool = False

    @property
    def connections_each(self) -> int:
        """The most connections of one address."""
        return min(self.per_address or 3 * self.connections // 4, self.connections)

    @property
    def near_url(self) -> str:
        """Where clients on this machine reach it."""
        host = _EVERYWHERE.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_cert else 'http'}://{shown}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return self.public_url or self.near_url


def checked(options: Options, log: Callable[..., None]) -> Options:
    """The same, the public address without a slash at its end, if it can be used. Raises UsageError."""
    _check_tls(options)
    if not is_loopback(options.host) and options.tls_cert is None:
        if not options.insecure_bind:
            raise UsageError(
                f"on {options.host} without TLS, tokens and data would cross the network unencrypted",
                "Add --tls-cert and --tls-key, bind to 127.0.0.1 behind a proxy with TLS, or add --insecure-bind",
            )
        log("warning", "tokens and data cross the network unencrypted", host=options.host)
    if options.public_url is None:
        return options
    address = urlsplit(options.public_url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise UsageError(
            f"{options.public_url!r} is not a server's address", "Use a URL such as https://kv.example.com"
        )
    return replace(options, public_url=options.public_url.rstrip("/"))


def _check_tls(options: Options) -> None:
    if options.tls_cert is None and options.tls_key is None:
        return
    if options.tls_cert is None or options.tls_key is None:
        raise UsageError("a certificate and its key belong together", "Add both --tls-cert and --tls-key")
    for path in (options.tls_cert, options.tls_key):
        if not os.access(path, os.R_OK):
            raise UsageError(f"{path} cannot be read", "Use a PEM file that this user can read")
    with open(options.tls_key, "rb") as file:
        if _PKCS8 not in file.read():
            raise UsageError(
                f"{options.tls_key} is not an unencrypted key in PKCS#8",
                f"Create one: openssl pkcs8 -topk8 -nocrypt -in {options.tls_key} -out key.pem",
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"{options.tls_cert} and {options.tls_key} are not a certificate and its key: {error}", "Use a pair in PEM"
        ) from error


def is_loopback(host: str) -> bool:
    """Is this address one of this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
