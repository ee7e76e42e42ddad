"""How an app is built and started, in its settings: as `provisioner app run` sets it.

Commands are run on the server, and access decides who reaches them. As with directories on the server, only a user who may
write into the home sets those: a session from a login link.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from provisioner.core.durations import written
from provisioner.core.errors import UsageError
from provisioner.core.hosting import RunCommand
from provisioner.core.model import App
from provisioner.dashboard.pages.suggest import app_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, RequestedChange, filling
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations.hosting import run_settings
from provisioner.operations.hosting.run_settings import NEVER, RunSettings
from provisioner.operations.proposal import ProgressReporter
from provisioner.registry import hosting

COMMAND, REPOSITORY = "command", "repository"
PUBLIC, PRIVATE = "public", "private"
_AT_HOME: Final = ("start", "command", "install", "build", "directory", "access")
_FOR_ALL: Final = ("health", "idle")
FIELDS: Final = (*_AT_HOME, *_FOR_ALL)
_START: Final = frozenset(("start", "command"))
_SHOWN: Final = "shown_"


def values(command: RunCommand | None) -> Mapping[str, str]:
    """The fields of the form."""
    if command is None:
        return dict.fromkeys(FIELDS, "") | {"start": COMMAND, "access": PRIVATE, "idle": "15min"}
    return {
        "start": REPOSITORY if command.from_repository else COMMAND,
        "command": command.command,
        "install": command.install,
        "build": command.build,
        "directory": command.directory,
        "access": PUBLIC if command.public else PRIVATE,
        "health": command.health,
        "idle": written(command.idle_ms) if command.idle_ms is not None else NEVER,
    }


def shown(visit: PageContext, form: Filled, command: RunCommand | None) -> Mapping[str, str]:
    """Hidden fields of the form: what its fields showed first, so that what was edited is known."""
    names = () if command is None else FIELDS if visit.session.at_home else _FOR_ALL
    first = values(command)
    return {_SHOWN + name: form.value(_SHOWN + name, first[name]) for name in names}


def change(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """Those that were edited: another user may have changed others since the form was shown."""
    app = app_of(visit)
    before = hosting.run_command(visit.registry, app.id)
    given = _edited(visit.form) if before is not None else _sent(visit.form)
    if not visit.session.at_home and any(name in _AT_HOME for name in visit.form):
        raise UsageError(
            "a session opened with a token cannot set commands or access",
            "Log in with a link: provisioner dashboard",
        )
    settings = _settings(given)
    for name in ("directory", *_FOR_ALL):
        with filling(name):
            RunSettings(**{name: getattr(settings, name)}).of(app, before or RunCommand(app.id, "true"))
    with filling("command"):
        proposal = run_settings.set_run(visit.registry, app, settings)
    return RequestedChange(f"Change how {app.slug} runs", proposal, _path(app), lambda _: _undo(app, before, given))


def end(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """Stop running the app."""
    app = app_of(visit)
    if not visit.session.at_home:
        raise UsageError(
            "a session opened with a token cannot stop running an app",
            "Log in with a link: provisioner dashboard",
        )
    proposal = run_settings.set_no_run(visit.registry, app)
    return RequestedChange(f"Stop running {app.slug}", proposal, _path(app))


def _sent(form: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    """The fields with this prefix. A browser sends each line break of a text as CR LF."""
    found = {name: form[prefix + name] for name in FIELDS if prefix + name in form}
    return {name: text.replace("\r\n", "\n").replace("\r", "\n").strip() for name, text in found.items()}


def _edited(form: Mapping[str, str]) -> dict[str, str]:
    """Without those that are as they were shown. How the app is started, and the command, are one choice."""
    given, first = _sent(form), _sent(form, _SHOWN)
    edited = {name for name, text in given.items() if text != first.get(name)}
    if edited & _START:
        edited |= _START
    return {name: text for name, text in given.items() if name in edited}


def _settings(given: Mapping[str, str]) -> RunSettings:
    start, access = given.get("start", ""), given.get("access", "")
    from_repository = start == REPOSITORY
    return RunSettings(
        command=None if from_repository else given.get("command"),
        install=given.get("install"),
        build=given.get("build"),
        directory=given.get("directory"),
        health=given.get("health"),
        idle=given.get("idle"),
        from_repository=from_repository,
        public={PUBLIC: True, PRIVATE: False}.get(access),
    )


def _undo(app: App, before: RunCommand | None, given: Iterable[str]) -> Offer:
    if before is None:
        return Offer("Undo", f"/apps/{app.slug}/run/end", {})
    mine = values(before)
    return Offer("Undo", f"/apps/{app.slug}/run", {name: mine[name] for name in given})


def _path(app: App) -> str:
    return f"/apps/{app.slug}/settings"
