"""Caddy's handlers that pass a request on: to an app, or to the gateway. See `configuration`."""

from __future__ import annotations

from typing import Any

from provisioner.hosting.router.cookies import COOKIE, IN_REQUEST, SET_DOMAIN, SET_OURS
from provisioner.hosting.router.names import (
    ASK,
    ASK_AGAIN,
    BYPASS,
    CLIENT,
    FAILED,
    GATEWAY_SOCKET,
    HOST,
    METHOD,
    SCHEME,
    UPSTREAM,
    URI,
)
from provisioner.hosting.router.options import RouterOptions

Json = dict[str, Any]

# Servers close idle connections after 5 s (Node, uvicorn) or 2 s (gunicorn). A request that meets this is lost if it
# cannot be repeated, so the router closes them first.
_APP_IDLE = "1500ms"
_APP_CONNECTIONS = 256
_DIAL = "3s"
# Answers without a length are passed on as they come, for example events; this is for those with one.
_FLUSH = "20ms"
# Of requests to a configuration that was replaced, for example when certificates were renewed.
DRAIN = "10m"
_GATEWAY_TRIES, _GATEWAY_PAUSE = 200, "50ms"  # while a daemon starts again
_NEVER: list[dict[str, Any]] = [{"not": [{}]}]


def app(options: RouterOptions, patience: str) -> list[Json]:
    """To the address in the variable `to`, ``/<ip>:<port>``. Only a connection that could not be made is tried again."""
    rewritten = {"Set-Cookie": [{"search_regexp": pattern, "replace": ""} for pattern in (SET_OURS, SET_DOMAIN)]}
    ours: Json = {"match": [{"header": {"Cookie": [f"*{COOKIE}*"]}}], "handle": [subroute(_without_our_cookie())]}
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": "tcp{http.vars.to}"}],
        "flush_interval": _FLUSH,
        "stream_close_delay": DRAIN,
        "transport": {
            "protocol": "http",
            "compression": False,
            "dial_timeout": _DIAL,
            "keep_alive": {
                "idle_timeout": _APP_IDLE,
                "max_idle_conns_per_host": _APP_CONNECTIONS,
                "probe_interval": "30s",
            },
        },
        "load_balancing": {"try_duration": patience, "try_interval": "20ms", "retry_match": _NEVER},
        **_proxies(options),
    }
    # Not in the proxy itself: it does not rewrite the headers of an upgrade to WebSocket.
    headers = {
        "handler": "headers",
        "request": {"delete": [BYPASS]},
        "response": {"deferred": True, "delete": ["Via"], "replace": rewritten},
    }
    return [subroute([ours, {"handle": [headers, proxy]}])]


def _without_our_cookie() -> list[Json]:
    replaced = {"Cookie": [{"search_regexp": IN_REQUEST, "replace": ""}]}
    return [
        {"handle": [{"handler": "headers", "request": {"replace": replaced}}]},
        {
            "match": [{"header": {"Cookie": [""]}}],
            "handle": [{"handler": "headers", "request": {"delete": ["Cookie"]}}],
        },
    ]


def gateway(**more: Any) -> Json:
    """To the daemon. What the client may not say itself is set here."""
    said = {
        HOST: ["{http.request.hostport}"],
        CLIENT: ["{http.request.remote.host}"],
        SCHEME: ["{http.request.scheme}"],
        METHOD: ["{http.request.method}"],
        URI: ["{http.request.orig_uri}"],
        FAILED: ["{http.vars.failed}"],
    }
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{GATEWAY_SOCKET}"}],
        "headers": {"request": {"set": said, "delete": ["Via"]}, "response": {"delete": ["Server"]}},
        "load_balancing": {"retries": _GATEWAY_TRIES, "try_interval": _GATEWAY_PAUSE, "retry_match": _NEVER},
        "transport": {"protocol": "http", "compression": False, "keep_alive": {"max_idle_conns_per_host": 64}},
        **more,
    }


def asking(then: str) -> Json:
    """Ask the gateway, without the body; it names an address, to which the request itself goes, or has an answer."""
    asking = gateway(
        rewrite={"method": "GET", "uri": f"{ASK}?"},
        handle_response=[
            {
                "match": {"headers": {UPSTREAM: ["*"]}},
                "routes": [
                    {
                        "handle": [
                            {"handler": "vars", "to": f"/{{http.reverse_proxy.header.{UPSTREAM}}}"},
                            invoke(then),
                        ]
                    }
                ],
            }
        ],
    )
    # Asking changes nothing, so it is done again whatever happened to the daemon, however long it has taken.
    cut_off = f"{{http.reverse_proxy.is_transport_error}} == true || {{http.reverse_proxy.status_code}} == {ASK_AGAIN}"
    asking["load_balancing"]["retry_match"] = [{"expression": cut_off}]
    asking["headers"]["request"]["delete"] = [
        *("Via", "Upgrade", "Connection", "Content-Length", "Content-Type", "Expect", "Transfer-Encoding"),
        *("Sec-Websocket-*", "Range", "If-*", "Te", "Trailer"),
    ]
    return asking


def _proxies(options: RouterOptions) -> Json:
    return {"trusted_proxies": list(options.trusted_proxies)} if options.trusted_proxies else {}


def invoke(name: str) -> Json:
    return {"handler": "invoke", "name": name}


def subroute(routes: list[Json]) -> Json:
    return {"handler": "subroute", "routes": routes}
