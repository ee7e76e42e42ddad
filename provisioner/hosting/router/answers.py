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
_STYLE = """
:root { color-scheme: light dark; --page: #f7f8f8; --box: #fff; --line: #b4bfbf; --text: #18211f; --quiet: #55615f;
  --accent: #0b6158; --on-accent: #fff; --bad: #9a1c1c; }
@media (prefers-color-scheme: dark) { :root { --page: #101514; --box: #171e1d; --line: #485653; --text: #e5ebe9;
  --quiet: #9fadaa; --accent: #5fd0bf; --on-accent: #06211d; --bad: #ffa59e; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 36rem; margin: 14vh auto 0; padding: 0 1rem 3rem;
  background: var(--page); color: var(--text); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
p { margin: .6rem 0; }
pre { overflow: auto; max-height: 50vh; padding: 1rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--box); font-size: 13px; }
input, button, .button { font: inherit; padding: .45rem .8rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--box); color: var(--text); }
input { width: 100%; box-sizing: border-box; margin: .3rem 0 .8rem; }
label { font-weight: 550; }
button { cursor: pointer; }
.button { display: inline-block; background: var(--accent); border-color: var(--accent); color: var(--on-accent);
  font-weight: 600; text-decoration: none; }
.or { color: var(--quiet); margin: 1.2rem 0; }
[role=alert] { color: var(--bad); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">{head}
<title>{title}</title>
<style>{style}</style></head>
<body><main><h1>{title}</h1>
{body}
</main></body></html>
"""
_BY_DASHBOARD = """<p><a class="button" href="{place}">Sign in with the dashboard</a></p>
<p class="or">or with an access token</p>"""


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
    link = _BY_DASHBOARD.format(place=html.escape(dashboard)) if dashboard else ""
    body = f"""{said}<p>{html.escape(name)} is not public.</p>{link}
<form method="post" action="{html.escape(action)}"><input type="hidden" name="next" value="{html.escape(following)}">
<label for="token">Access token</label><input id="token" name="token" type="password" required autocomplete="off" maxlength="256">
<button>Sign in</button></form>"""
    return _page(status, "Sign in", body, "", None)


def redirect(location: str, cookies: Sequence[str] = ()) -> GatewayAnswer:
    extra: Headers = [("location", location), *(("set-cookie", each) for each in cookies)]
    return GatewayAnswer(SEE_OTHER, b"", [*_SAFE, *extra])


def _page(status: int, title: str, body: str, head: str, extra: Headers | None) -> GatewayAnswer:
    text = _PAGE.format(title=html.escape(title), body=body, head=head, style=_STYLE)
    return GatewayAnswer(status, text.encode(), _with_type("text/html", extra))


def _with_type(kind: str, extra: Headers | None) -> Headers:
    return [("content-type", f"{kind}; charset=utf-8"), *_SAFE, *(extra or [])]
