"""Templates, and how values are shown in them. Everything a user could have written is escaped; nothing is trusted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.durations import about
from provisioner.core.naming import shown
from provisioner.dashboard.web.background_tasks import BackgroundTask
from provisioner.dashboard.web.roots import rooted, under
from provisioner.dashboard.web.sessions import LoginSession, Notice
from provisioner.operations.documents import size_text

_HERE: Final = os.path.dirname(os.path.dirname(__file__))
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def _assets() -> dict[str, tuple[bytes, str]]:
    found = {}
    directory = os.path.join(_HERE, "static")
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = (file.read(), _TYPES[os.path.splitext(name)[1]])
    return found


ASSETS: Final = _assets()
VERSION: Final = sha256(b"".join(content for content, _ in ASSETS.values())).hexdigest()[:12]


def ago(milliseconds: int | str | None, now: int) -> Markup:
    """A time element: how long ago or in how long, with the exact time as its tooltip."""
    if milliseconds is None:
        return Markup("–")
    if isinstance(milliseconds, str):
        milliseconds = int(datetime.fromisoformat(milliseconds).replace(tzinfo=UTC).timestamp() * 1000)
    exact = rfc3339(milliseconds)
    text = about(abs(now - milliseconds) // 1000)
    text = f"{text} ago" if milliseconds <= now else f"in {text}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, text)


def took(milliseconds: int) -> str:
    """How long something took: ``40 ms``, ``1.4 s``, ``12 s``, ``2 min 5 s``."""
    if milliseconds < 1000:
        return f"{max(0, milliseconds)} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def name(raw: bytes | str) -> Markup:
    """A name that is isolated, so that its writing direction does not affect the text around it."""
    return Markup("<bdi>{}</bdi>").format(shown(raw))


def visible(text: str, most: int = 65_536) -> str:
    """Text of any length with any characters: control characters are escaped, and excess length is cut."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(
            char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "surrogatepass").decode()
            for char in cut
        )
    return cut if len(text) <= most else f"{cut}…"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(os.path.join(_HERE, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ago=ago, size=size_text, name=name, visible=visible, took=took)
    environment.globals["asset_version"] = VERSION
    return environment


_ENVIRONMENT: Final = _environment()


def page(
    template: str,
    *,
    status: int = 200,
    notes: Sequence[Notice] = (),
    works: Sequence[BackgroundTask] = (),
    **context: Any,
) -> HTMLResponse:
    """A page from a template, with `session` (None: not logged in), `now` (ms), and its own variables."""
    text = _ENVIRONMENT.get_template(template).render(notes=notes, works=works, **context)
    session = context["session"]
    if session is not None:
        text = rooted(session.root, text)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


@dataclass(frozen=True, slots=True)
class Again:
    """A form that was sent to this path and failed: its values can be shown in it again."""

    path: str
    typed: str


def failed(
    session: LoginSession | None, status: int, message: str, hint: str, back: str = "/", again: Again | None = None
) -> HTMLResponse:
    """The page that shows the error, and leads to another page."""
    return page(
        "failed.html",
        status=status,
        session=session,
        now=now_ms(),
        message=message,
        hint=hint,
        back=back,
        again=again,
    )


def login(
    status: int = 200, wrong: str = "", *, following: str = "", resume: str = "", typed: str = ""
) -> HTMLResponse:
    """The login form, with the page to show afterwards: a `following` page, or a form to `resume` with its values."""
    return page(
        "login.html",
        status=status,
        session=None,
        now=now_ms(),
        wrong=wrong,
        following=following,
        resume=resume,
        typed=typed,
    )


def onward(session: LoginSession, path: str) -> HTMLResponse:
    """The page that a browser leaves at once for another page of the session."""
    return page("onward.html", session=session, now=now_ms(), path=path, place=under(session.root, path))
