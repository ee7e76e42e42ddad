"""How the router listens: address, port, domain, and where its certificates come from."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from provisioner.core.host_names import DOMAIN, PORT


@dataclass(frozen=True, slots=True)
class NoTls:
    """Cleartext HTTP/1.1 and HTTP/2."""


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """Certificates of an authority of the home's own, whose root the users' machines must trust."""


@dataclass(frozen=True, slots=True)
class Acme:
    """A certificate for each host, issued when the first request for it comes. `directory` is the authority's; the empty one
    is Let's Encrypt. `roots` is a PEM file of what the authority's own server is trusted by, if not by the system."""

    email: str
    directory: str = ""
    roots: str = ""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with its chain, for example a wildcard, and its key (PEM). Hosts that it does not name, such as custom
    domains, get theirs from `others`, if that is set."""

    certificate: str
    key: str
    others: Acme | None = None


Tls = NoTls | LocalAuthority | Acme | CertificateFiles


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """`trusted_proxies` are the networks of proxies in front of the router whose X-Forwarded headers are believed. At
    `http_port`, if it is not 0, the router answers without TLS: to ACME's HTTP-01, and with redirects."""

    host: str = "127.0.0.1"
    port: int = PORT
    domain: str = DOMAIN
    tls: Tls = NoTls()
    trusted_proxies: tuple[str, ...] = ()
    http_port: int = 0

    @property
    def local(self) -> bool:
        """Can only programs of this machine reach the router, by names that lead to no other machine? Then previews need no
        sign-in."""
        in_localhost = self.domain == DOMAIN or self.domain.endswith(f".{DOMAIN}")
        return in_localhost and not self.trusted_proxies and _is_loopback(self.host)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What to listen on. Browsers try both loopback addresses for a name in localhost; a program on the other would get
        requests that are meant for previews."""
        return ("127.0.0.1", "::1") if self.host in ("127.0.0.1", DOMAIN) else (self.host,)

    @property
    def acme(self) -> Acme | None:
        """The authority that issues certificates for hosts, if one does."""
        match self.tls:
            case Acme():
                return self.tls
            case CertificateFiles():
                return self.tls.others
            case _:
                return None

    @property
    def encrypted(self) -> bool:
        return not isinstance(self.tls, NoTls)

    def url(self, host: str) -> str:
        """The address of a host, as a browser is given it."""
        scheme, usual = ("https", 443) if self.encrypted else ("http", 80)
        return f"{scheme}://{host}" if self.port == usual else f"{scheme}://{host}:{self.port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == DOMAIN
