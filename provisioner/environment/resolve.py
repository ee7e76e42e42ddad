"""From where a command is run and what its selectors say to variables. Shared by `exec`, `env` and the env files."""

from __future__ import annotations

import os

from provisioner.core.connection import Connection
from provisioner.core.errors import NotResolved, UsageError
from provisioner.core.naming import BRANCH_PREFIX, PRODUCTION
from provisioner.engines.endpoints import environment
from provisioner.git.worktree import Checkout, current_branch, find_checkout, origin_directory
from provisioner.registry.exec_lookup import FoundApp, NotYet, Resolver
from provisioner.system.home import Home

Environ = dict[str, str] | os._Environ[str]

LOCAL = "local"
RUN = "PROVISIONER_RUN"  # has who is run before its timeline is connected, and must not wait for that


class Selectors:
    """Which timeline is meant, and whose variables. What is None is told from the checkout."""

    __slots__ = ("app", "branch", "context", "revision", "timeline")

    def __init__(
        self,
        app: str | None = None,
        branch: str | None = None,
        timeline: str | None = None,
        revision: str | None = None,
        context: str | None = None,
    ) -> None:
        self.app = app
        self.branch = branch
        self.timeline = timeline
        self.revision = revision
        self.context = context

    @property
    def of_the_checkout(self) -> bool:
        """Is nothing named, so that all of it is what the directory says?"""
        return not (self.app or self.branch or self.timeline or self.revision or self.context)


def resolve(
    home: Home, selectors: Selectors, cwd: bytes, environ: Environ, *, patient: bool = True
) -> tuple[Connection, dict[str, str]]:
    """The databases that `selectors` mean in the directory `cwd`, and their variables.

    A branch that git has and the registry does not know yet is reconciled first; who is `patient` also waits for
    commands that have to run before it is connected. Raises `NotResolved`.
    """
    if selectors.context not in (None, LOCAL):
        raise UsageError(
            f"--context takes {LOCAL}, not {selectors.context!r}: production or development is what the timeline is",
            "Say which timeline: --branch NAME",
        )
    local = selectors.context == LOCAL
    resolver = Resolver(home)
    app = _find_app(resolver, selectors, cwd)
    timeline = None if selectors.revision else _timeline(app, selectors, cwd, environ)
    try:
        connection = resolver.connection(app, timeline=timeline, revision=selectors.revision, local=local)
    except NotYet:
        _make_ready(home, app, None if not patient or RUN in environ else timeline or b"")
        resolver.wary = False
        connection = resolver.connection(app, timeline=timeline, revision=selectors.revision, local=local)
    return connection, environment(home, connection)


def timeline_here(home: Home, selectors: Selectors, cwd: bytes, environ: Environ) -> bytes:
    """The timeline's name that `selectors` mean in the directory `cwd`; whether it is there is another question."""
    return _timeline(_find_app(Resolver(home), selectors, cwd), selectors, cwd, environ)


def find_app(home: Home, selectors: Selectors, cwd: bytes) -> FoundApp:
    """The app of a slug, else the one whose repository `cwd` is in, else the one it was cloned from."""
    return _find_app(Resolver(home), selectors, cwd)


def app_of_checkout(home: Home, checkout: Checkout) -> FoundApp | None:
    """The app whose repository, or whose clone, the checkout is of."""
    return _app_of(Resolver(home), checkout)


def _find_app(resolver: Resolver, selectors: Selectors, cwd: bytes) -> FoundApp:
    if selectors.app is not None:
        app = resolver.app(slug=selectors.app)
        if app is None:
            raise NotResolved(f"there is no app {selectors.app!r}", "See 'provisioner app list'")
        return app
    checkout = find_checkout(cwd)
    if checkout is None:
        raise NotResolved(
            f"{os.fsdecode(cwd)} is in no git repository", "Go to one, or say which: --app APP --branch NAME"
        )
    app = _app_of(resolver, checkout)
    if app is None:
        raise NotResolved(
            f"the repository {os.fsdecode(checkout.common_dir)} is not registered",
            "Register it with 'provisioner init', or say which app: --app APP",
        )
    return app


def _app_of(resolver: Resolver, checkout: Checkout) -> FoundApp | None:
    app = resolver.app(git_dir=checkout.common_dir)
    if app is None:
        origin = origin_directory(checkout.common_dir)
        app = resolver.app(git_dir=origin) if origin is not None else None
    return app


def _timeline(app: FoundApp, selectors: Selectors, cwd: bytes, environ: Environ) -> bytes:
    if selectors.timeline is not None:
        return os.fsencode(selectors.timeline)
    if selectors.branch is not None:
        branch = os.fsencode(selectors.branch)
        return PRODUCTION if branch == app.production else BRANCH_PREFIX + branch
    checkout = find_checkout(cwd)
    if checkout is None:
        raise NotResolved(f"{os.fsdecode(cwd)} is in no git repository", "Say which branch: --branch NAME")
    if checkout.top is None:
        raise NotResolved("a bare repository has no branch checked out", "Say which: --branch NAME")
    current = current_branch(checkout, environ)
    if current.unborn:
        raise NotResolved(
            f"branch {os.fsdecode(current.name)!r} has no commit yet, so it has no database", "Commit something to it"
        )
    production = current.name == app.production
    if production and current.merge_request:
        raise NotResolved(
            f"the CI variables say that this is a merge request from a branch named {os.fsdecode(current.name)!r}, like"
            " the production branch; it does not get production's data",
            "Say which timeline is meant: --timeline production, or --branch NAME",
        )
    if selectors.app is not None:
        _must_be_of_app(app, checkout)
    return PRODUCTION if production else BRANCH_PREFIX + current.name


def _must_be_of_app(app: FoundApp, checkout: Checkout) -> None:
    """A branch of one repository says nothing about another's: `main` there would be production here."""
    here = (checkout.common_dir, origin_directory(checkout.common_dir))
    if app.git_dir not in here:
        raise NotResolved(
            f"this directory is not a checkout of app {app.slug!r}, so its branch does not say which timeline is meant",
            "Say it: --branch NAME",
        )


def _make_ready(home: Home, app: FoundApp, waiting: bytes | None) -> None:
    """Reconcile an app, and do what the timeline `waiting` waits for (empty: all timelines; None: nothing)."""
    from provisioner.core.clock import now_ms
    from provisioner.jobs.queue import do_all
    from provisioner.reconcile.controller import reconcile
    from provisioner.registry.store import Registry

    with Registry.open(home) as registry:
        full = registry.app(app.id)
        if full is None:
            return
        reconcile(registry, full, now_ms(), "exec")
        if waiting is not None:
            do_all(registry, full, "exec", timeline=waiting, say=_tell)


def _tell(line: str) -> None:
    """What is done before a program can start; its own output is not mixed with it."""
    import sys

    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
