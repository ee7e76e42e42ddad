"""What Caddy answers itself when a request cannot be passed on. See `configuration`."""

from __future__ import annotations

from provisioner.hosting.router.caddy_proxies import Json, invoke
from provisioner.hosting.router.names import GATEWAY_SOCKET

_NO_APP, _NO_GATEWAY = "^dial tcp ", f"^dial unix |{GATEWAY_SOCKET}"  # how Go words it


def error_routes() -> list[Json]:
    """An app that can no longer be reached: ask the gateway for it once. Without a gateway, answer with the error."""
    again = {"handler": "subroute", "routes": [{"handle": [invoke("again")]}], "errors": {"routes": _texts()}}
    return [
        {
            "match": [{"vars_regexp": {"{http.error.message}": {"pattern": _NO_APP}}}],
            "handle": [{"handler": "vars", "failed": "{http.vars.to}"}, again],
            "terminal": True,
        },
        *_texts(),
    ]


def _texts() -> list[Json]:
    ended = "The app did not answer: its connection ended. See its log: provisioner logs"
    down = "The provisioner daemon is not running. Start it, then try again: provisioner up"
    return [
        _said(_NO_APP, 503, "The app cannot be reached. See its log: provisioner logs"),
        _said(_NO_GATEWAY, 503, down),
        {
            "match": [{"vars": {"{http.error.status_code}": ["502", "504"]}}],
            "handle": [plain_text(502, ended)],
            "terminal": True,
        },
        {"handle": [plain_text("{http.error.status_code}", "{http.error.status_code} {http.error.status_text}")]},
    ]


def _said(pattern: str, status: int, text: str) -> Json:
    return {
        "match": [{"vars_regexp": {"{http.error.message}": {"pattern": pattern}}}],
        "handle": [plain_text(status, text)],
        "terminal": True,
    }


def plain_text(status: int | str, text: str) -> Json:
    headers = {"Content-Type": ["text/plain; charset=utf-8"], "Cache-Control": ["no-store"], "Retry-After": ["2"]}
    return {"handler": "static_response", "status_code": status, "headers": headers, "body": f"{text}\n"}
