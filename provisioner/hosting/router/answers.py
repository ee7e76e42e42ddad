"""The gateway's own answers: pages for browsers, one line of text for other programs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

OK, SEE_OTHER, BAD_REQUEST, UNAUTHORIZED, NOT_FOUND = 200, 303, 400, 401, 404
NOT_ALLOWED, TOO_MANY, BAD_GATEWAY, UNAVAILABLE = 405, 429, 502, 503

Headers = list[tuple[str, str]]

_SAFE: Headers = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
]
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">{head}
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto 0;padding:0 1rem;color-scheme:light dark}}
pre{{overflow:auto;padding:1rem;border:1px solid #8886;font-size:13px;max-height:50vh}}
input,button{{font:inherit;padding:.4rem .6rem}}input{{width:100%;box-sizing:border-box;margin:.3rem 0 .8rem}}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=list)


def message(
    status: int, title: str, text: str, *, page: bool, extra: Headers | None = None, refresh: int = 0
) -> GatewayAnswer:
    """A page with a title and a paragraph, or both as one line. With `refresh`, a browser asks again after as many seconds."""
    if not page:
        line = f"{title}. {text}\n" if text else f"{title}\n"
        return GatewayAnswer(status, line.encode(), _with_type("text/plain", extra))
    head = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return _page(status, title, f"<p>{html.escape(text)}</p>", head, extra)


def failed(name: str, reason: str, log_tail: str, *, page: bool) -> GatewayAnswer:
    """`log_tail` is empty for a client that may not see it."""
    title = f"{name} failed to start"
    if not page:
        log = f"\n{log_tail.rstrip()}\n" if log_tail else ""
        return GatewayAnswer(BAD_GATEWAY, f"{title}: {reason}\n{log}".encode(), _with_type("text/plain", None))
    log = f"<pre>{html.escape(log_tail)}</pre>" if log_tail else ""
    return _page(BAD_GATEWAY, title, f"<p>{html.escape(reason)}</p>{log}", "", None)


def sign_in(
    name: str, action: str, following: str, dashboard: str, *, wrong: str = "", status: int = UNAUTHORIZED
) -> GatewayAnswer:
    """The form for an access token. `dashboard` is the address of the page of the dashboard that signs in, if there is one."""
    said = f'<p role="alert"><strong>{html.escape(wrong)}</strong></p>' if wrong else ""
    link = f'<p><a href="{html.escape(dashboard)}">Sign in with the dashboard</a></p>' if dashboard else ""
    body = f"""{said}<p>{html.escape(name)} is not public.</p>{link}
<form method="post" action="{html.escape(action)}"><input type="hidden" name="next" value="{html.escape(following)}">
<label for="token">Access token</label><input id="token" name="token" type="password" required autocomplete="off" maxlength="256">
<button>Sign in</button></form>"""
    return _page(status, "Sign in", body, "", None)


def redirect(location: str, cookies: Sequence[str] = ()) -> GatewayAnswer:
    extra: Headers = [("location", location), *(("set-cookie", each) for each in cookies)]
    return GatewayAnswer(SEE_OTHER, b"", [*_SAFE, *extra])


def _page(status: int, title: str, body: str, head: str, extra: Headers | None) -> GatewayAnswer:
    text = _PAGE.format(title=html.escape(title), body=body, head=head)
    return GatewayAnswer(status, text.encode(), _with_type("text/html", extra))


def _with_type(kind: str, extra: Headers | None) -> Headers:
    return [("content-type", f"{kind}; charset=utf-8"), *_SAFE, *(extra or [])]
