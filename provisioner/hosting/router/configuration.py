"""Caddy's configuration: one for all routes, which it looks up in files. See https://caddyserver.com/docs/json/.

Every path in it is relative to the router's directory, where Caddy runs, so nothing in the path of the home is taken for a
pattern or a placeholder, and a socket's path is never too long. A request takes the first of these that fits::

    /.provisioner/…                                      the gateway answers
    open/<host>/<address>                                to that address
    sessions/<host>/<cookie> and closed/<host>/<address> to that address
    anything else                                        ask the gateway: it names an address, or answers
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import assert_never

from provisioner.hosting.router.caddy_errors import error_routes, plain_text
from provisioner.hosting.router.caddy_proxies import DRAIN, Json, app, asking, gateway, invoke, subroute
from provisioner.hosting.router.cookies import cookie_pattern
from provisioner.hosting.router.names import (
    ADMIN_SOCKET,
    CLIENT,
    DATA,
    FAILED,
    HOST,
    KNOWN,
    LOG,
    METHOD,
    OWN,
    SCHEME,
    SESSIONS,
    UPSTREAM,
    URI,
)
from provisioner.hosting.router.options import Acme, CertificateFiles, LocalAuthority, NoTls, RouterOptions
from provisioner.hosting.routes import CLOSED, LOOPBACK, OPEN

_HEADER_BYTES = 65_536
_HTTPS = 443
_HEADER_SECONDS = "30s"
_IDLE_SECONDS = "2m"
_FIRST_TRY, _SECOND_TRY = "1s", "5s"
_FORM_BYTES = 16_384
_HOST_PATTERN = r"^[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?$"
_FORWARDED = [
    "Forwarded",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Real-Ip",
]
_WITHOUT_VIA = {"handler": "headers", "response": {"deferred": True, "delete": ["Via"]}}
# A client may offer to switch to HTTP/2. Caddy would pass the offer to the app, which must not accept it.
_NO_UPGRADE_TO_HTTP_2 = {
    "match": [{"header": {"Http2-Settings": ["*"]}}],
    "handle": [{"handler": "headers", "request": {"delete": ["Upgrade", "Http2-Settings"]}}],
}

_LISTENER, _PLAIN, _ASKING, _ASKING_PORT = "ROUTER_LISTENER_", "ROUTER_PLAIN_", "ROUTER_ASKING", "ROUTER_ASKING_PORT"


def environment(listeners: Sequence[int], plain: Sequence[int], asking: int, asking_port: int) -> dict[str, str]:
    """Tells Caddy the descriptors of the sockets that it inherits. Those of `plain` have no TLS. On the one of `asking` it asks
    itself for which hosts it may get a certificate."""
    numbers = {f"{_LISTENER}{place}": str(number) for place, number in enumerate(listeners)}
    numbers |= {f"{_PLAIN}{place}": str(number) for place, number in enumerate(plain)}
    return {**numbers, _ASKING: str(asking), _ASKING_PORT: str(asking_port)}


def configuration(options: RouterOptions) -> Json:
    """The same for the same options. The sockets that Caddy inherits are in its environment: see `environment`."""
    servers = {"router": _server(options)}
    if _issues(options):
        servers["permission"] = _permission()
    if options.encrypted and options.http_port:
        servers["plain"] = _plain(options)
    return {
        "admin": {"listen": f"unix/{ADMIN_SOCKET}|0600", "config": {"persist": False}},
        "logging": {"logs": {"default": _log()}},
        "storage": {"module": "file_system", "root": DATA},
        "apps": {
            "http": {"grace_period": DRAIN, "servers": servers},
            **_certificates(options),
        },
    }


def _log() -> Json:
    """Warnings only, and no request in them: its address and its headers may hold secrets."""
    writer = {"output": "file", "filename": LOG, "roll_size_mb": 10, "roll_keep": 2, "roll_gzip": False, "mode": "0600"}
    encoder = {"format": "filter", "wrap": {"format": "json"}, "fields": {"request": {"filter": "delete"}}}
    return {"level": "WARN", "writer": writer, "encoder": encoder}


def _server(options: RouterOptions) -> Json:
    server: Json = {
        "listen": [f"fd/{{env.{_LISTENER}{number}}}" for number in range(len(options.addresses))],
        "protocols": ["h1", "h2"] if options.encrypted else ["h1", "h2c"],
        "automatic_https": {"disable": True},
        "read_header_timeout": _HEADER_SECONDS,
        "idle_timeout": _IDLE_SECONDS,
        "max_header_bytes": _HEADER_BYTES,
        "enable_full_duplex": True,
        "named_routes": {
            "app": {"handle": app(options, _FIRST_TRY)},
            "patient": {"handle": app(options, _SECOND_TRY)},
            "gateway": {"handle": [_WITHOUT_VIA, asking("app")]},
            "again": {"handle": [_WITHOUT_VIA, asking("patient")]},
        },
        "routes": _routes(options),
        "errors": {"routes": error_routes()},
    }
    if options.trusted_proxies:
        server["trusted_proxies"] = {"source": "static", "ranges": list(options.trusted_proxies)}
    if options.encrypted:
        server["tls_connection_policies"] = [{}]
        server["listener_wrappers"] = [{"wrapper": "http_redirect"}, {"wrapper": "tls"}]
    return server


def _routes(options: RouterOptions) -> list[Json]:
    own = {
        "match": [{"path": [OWN, f"{OWN}/*"]}],
        "handle": [{"handler": "request_body", "max_size": _FORM_BYTES}, _WITHOUT_VIA, gateway()],
        "terminal": True,
    }
    named = {
        "match": [{"header_regexp": {"Host": {"pattern": _HOST_PATTERN}}}],
        "handle": [subroute([_to_app(OPEN), _with_session(options)])],
    }
    strip: Json = {"handler": "headers", "response": {"delete": ["Server"]}}
    ours = [HOST, CLIENT, SCHEME, METHOD, URI, FAILED, UPSTREAM]
    strip["request"] = {"delete": ours if options.trusted_proxies else [*_FORWARDED, *ours]}
    return [{"handle": [strip]}, _NO_UPGRADE_TO_HTTP_2, own, named, {"handle": [invoke("gateway")]}]


def _to_app(kind: str) -> Json:
    """The name of the one file in a host's directory is the address.

    By this policy, Caddy lists the directory and does not look for the file again, which would be gone if the route has changed
    in between. The app at the old address still answers then.
    """
    return {
        "match": [
            {
                "file": {
                    "root": f"{kind}/{{http.request.host}}",
                    "try_files": [f"{LOOPBACK}:*"],
                    "try_policy": "first_exist_fallback",
                }
            }
        ],
        "handle": [{"handler": "vars", "to": "{http.matchers.file.relative}"}, invoke("app")],
        "terminal": True,
    }


def _with_session(options: RouterOptions) -> Json:
    """A file for the cookie's value in the host's directory: its session. The value says itself when it ends."""
    name, ends = "{http.regexp.session.1}", "{http.regexp.session.2}"
    cookie = {"header_regexp": {"Cookie": {"name": "session", "pattern": cookie_pattern(options)}}}
    file = {"file": {"root": f"{SESSIONS}/{{http.request.host}}", "try_files": [f"{name}.{ends}"]}}
    in_time = {"expression": f"int({ends}) > int({{time.now.unix}})"}
    return _nested([cookie, file, in_time], [_to_app(CLOSED)])


def _nested(matchers: Sequence[Json], routes: list[Json]) -> Json:
    """Matchers one after the other: those of one set are looked at in no order."""
    for matcher in reversed(matchers):
        routes = [{"match": [matcher], "handle": [subroute(routes)]}]
    return routes[0]


def _certificates(options: RouterOptions) -> Json:
    match options.tls:
        case NoTls():
            return {}
        case LocalAuthority():
            authority = {"install_trust": False, "name": "provisioner"}
            return {
                "pki": {"certificate_authorities": {"local": authority}},
                "tls": _on_demand({"module": "internal", "ca": "local"}),
            }
        case Acme():
            return {"tls": _on_demand(_acme(options, options.tls))}
        case CertificateFiles():
            files = {"certificate": os.path.abspath(options.tls.certificate), "key": os.path.abspath(options.tls.key)}
            others = options.tls.others
            issued = _on_demand(_acme(options, others)) if others is not None else {}
            return {"tls": {"certificates": {"load_files": [files]}, **issued}}
    assert_never(options.tls)


def _issues(options: RouterOptions) -> bool:
    return isinstance(options.tls, LocalAuthority) or options.acme is not None


def _acme(options: RouterOptions, authority: Acme) -> Json:
    """The authority connects to the router itself: at its own port for TLS-ALPN-01, and at the one without TLS for HTTP-01.

    Without these ports, Caddy would open 443 and 80 for each challenge, which another user than root may not.
    """
    issuer: Json = {"module": "acme", "email": authority.email}
    http: Json = {"alternate_port": options.http_port} if options.http_port else {"disabled": True}
    issuer["challenges"] = {
        "http": http,
        "tls-alpn": {"alternate_port": options.port},
        "bind_host": options.addresses[0],
    }
    if authority.directory:
        issuer["ca"] = authority.directory
    if authority.roots:
        issuer["trusted_roots_pem_files"] = [os.path.abspath(authority.roots)]
    return issuer


def _on_demand(issuer: Json) -> Json:
    """A certificate for each host at its first request, if the gateway knows the host."""
    permission = {"module": "http", "endpoint": f"http://{LOOPBACK}:{{env.{_ASKING_PORT}}}/"}
    return {
        "automation": {"policies": [{"issuers": [issuer], "on_demand": True}], "on_demand": {"permission": permission}}
    }


def _plain(options: RouterOptions) -> Json:
    """Caddy answers HTTP-01 on every server automatically; everything else is sent to the same address with TLS."""
    port = "" if options.port == _HTTPS else f":{options.port}"
    headers = {"Location": [f"https://{{http.request.host}}{port}{{http.request.uri}}"], "Connection": ["close"]}
    redirect = {"handler": "static_response", "status_code": 308, "headers": headers}
    named = {"match": [{"header_regexp": {"Host": {"pattern": _HOST_PATTERN}}}], "handle": [redirect], "terminal": True}
    return {
        "listen": [f"fd/{{env.{_PLAIN}{number}}}" for number in range(len(options.addresses))],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_header_timeout": _HEADER_SECONDS,
        "idle_timeout": _IDLE_SECONDS,
        "max_header_bytes": _HEADER_BYTES,
        "routes": [named, {"handle": [plain_text(400, "Bad request")]}],
    }


def _permission() -> Json:
    """Caddy asks over TCP only; this leads to the gateway, with nothing else behind it."""
    ask = gateway(rewrite={"method": "GET", "uri": f"{KNOWN}?{{http.request.uri.query}}"})
    return {
        "listen": [f"fd/{{env.{_ASKING}}}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [ask]}],
        "errors": {"routes": [{"handle": [plain_text(503, "The provisioner daemon is not running.")]}]},
    }
