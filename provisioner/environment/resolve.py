"""The app, timeline, and variables for a directory and selectors. Shared by `exec`, `env`, and the env files."""

from __future__ import annotations

import os

from provisioner.core.connection import TimelineConnection
from provisioner.core.errors import Ambiguous, NotResolved, UsageError
from provisioner.core.naming import BRANCH_PREFIX, PRODUCTION
from provisioner.core.unconnected import NotYet
from provisioner.engines.endpoints import environment
from provisioner.git.repository_id import app_ids, found_elsewhere
from provisioner.git.worktree import Checkout, current_branch, find_checkout, origin_directory
from provisioner.registry.exec_lookup import FoundApp, Resolver
from provisioner.system.home import Home

Environ = dict[str, str] | os._Environ[str]

LOCAL = "local"
SHORTEST_REVISION = 7
KEYED = "deno-kv"  # the engine whose databases hold keys
RUN = "PROVISIONER_RUN"  # set for commands that run before their timeline is connected, and must not wait for it


def here() -> bytes:
    """The working directory. Raises NotResolved if it was deleted."""
    try:
        return os.getcwdb()
    except OSError as error:
        raise NotResolved(
            f"the current directory cannot be read: {error.strerror}", "Change to a directory that exists"
        ) from error


class Selectors:
    """The selected timeline, instance, and context. None means that the checkout decides.

    They mean the same in every command. `revision` is a commit's id, or anything that git resolves to one.
    """

    __slots__ = ("app", "branch", "context", "instance", "revision", "timeline")

    def __init__(
        self,
        app: str | None = None,
        branch: str | None = None,
        timeline: str | None = None,
        revision: str | None = None,
        context: str | None = None,
        instance: str | None = None,
    ) -> None:
        self.app = app
        self.branch = branch
        self.timeline = timeline
        self.revision = revision
        self.context = context
        self.instance = instance

    def must_be_one(self) -> None:
        """Raises UsageError if they name a timeline in two ways."""
        ways = ("branch", self.branch), ("timeline", self.timeline), ("revision", self.revision)
        said = [f"--{name}" for name, value in ways if value is not None]
        if len(said) > 1:
            raise UsageError(f"{' and '.join(said)} cannot be used together", "Choose one")

    @property
    def of_the_checkout(self) -> bool:
        """Whether nothing is named, so that the directory decides all of it."""
        names = (self.app, self.branch, self.timeline, self.revision, self.instance, self.context)
        return not any(names)


def resolve(
    home: Home, selectors: Selectors, cwd: bytes, environ: Environ, *, patient: bool = True
) -> tuple[TimelineConnection, dict[str, str]]:
    """The databases that `selectors` select in the directory `cwd`, and their variables.

    A branch that git has and the registry does not know yet is reconciled first; with `patient`, it also waits for commands
    that must run before it is connected. Raises `NotResolved`.
    """
    if selectors.context not in (None, LOCAL):
        raise UsageError(
            f"--context takes {LOCAL}, not {selectors.context!r}: production and development follow from the timeline",
            "Choose the timeline: --branch NAME",
        )
    local = selectors.context == LOCAL
    selectors.must_be_one()
    resolver = Resolver(home)
    app = _find_app(resolver, selectors, cwd)
    if selectors.app is not None:
        _must_be_its_own(home, app)
    revision = None if selectors.revision is None else _commit(app, selectors.revision, cwd)
    timeline = None if revision is not None else _timeline(app, selectors, cwd, environ)

    def connect() -> tuple[TimelineConnection, dict[str, str]]:
        connection = resolver.connection(
            app, timeline=timeline, revision=revision, local=local, instance=selectors.instance
        )
        return connection, environment(home, connection)

    try:
        return connect()
    except NotYet:
        _make_ready(home, app, None if not patient or RUN in environ else timeline or b"")
        resolver.wary = False
        return connect()


def keyed_instance(home: Home, selectors: Selectors, cwd: bytes) -> str | None:
    """The slug of the app's only instance that holds keys, or of the one that the selectors name; None if the app has no
    instance. Raises NotResolved if that one holds none, or if there are several."""
    resolver = Resolver(home)
    app = _find_app(resolver, selectors, cwd)
    engines = resolver.engines(app)
    keyed = [slug for slug, engine in engines.items() if engine == KEYED]
    if selectors.instance is not None and selectors.instance in engines and selectors.instance not in keyed:
        raise NotResolved(
            f"instance {selectors.instance!r} is a {engines[selectors.instance]} instance and holds no keys",
            f"Choose a deno-kv instance: {', '.join(keyed) or 'none is assigned'}",
        )
    if selectors.instance is not None or not engines:
        return selectors.instance
    if not keyed:
        others = ", ".join(f"{slug} ({engine})" for slug, engine in engines.items())
        raise NotResolved(
            f"app {app.slug!r} has no deno-kv instance, only {others}",
            f"Assign one: provisioner assign INSTANCE {app.slug}. For SQL, use: provisioner exec -- psql",
        )
    if len(keyed) > 1:
        raise Ambiguous(
            f"app {app.slug!r} has {len(keyed)} deno-kv instances: {', '.join(keyed)}",
            "Choose one: --instance INSTANCE",
            candidates=keyed,
        )
    return keyed[0]


def timeline_here(home: Home, selectors: Selectors, cwd: bytes, environ: Environ) -> bytes:
    """The timeline's name that `selectors` select in the directory `cwd`; the timeline may not exist."""
    return _timeline(_find_app(Resolver(home), selectors, cwd), selectors, cwd, environ)


def commit_meant(home: Home, selectors: Selectors, cwd: bytes) -> str:
    """The id, or the start of one, of the commit that the selectors' revision means in the directory `cwd`."""
    return _commit(_find_app(Resolver(home), selectors, cwd), selectors.revision or "", cwd)


def find_app(home: Home, selectors: Selectors, cwd: bytes) -> FoundApp:
    """The app of a slug, else the one whose repository `cwd` is in, else the one that it was cloned from."""
    return _find_app(Resolver(home), selectors, cwd)


def app_of_checkout(home: Home, checkout: Checkout) -> FoundApp | None:
    """The app whose repository or clone the checkout belongs to."""
    return _app_of(Resolver(home), checkout)


def _find_app(resolver: Resolver, selectors: Selectors, cwd: bytes) -> FoundApp:
    if selectors.app is not None:
        app = resolver.app(slug=selectors.app)
        if app is None:
            from provisioner.core.nearest import nearest

            near = nearest(selectors.app, resolver.slugs())
            raise NotResolved(f"no app named {selectors.app!r}", "List apps: provisioner app list", candidates=near)
        return app
    checkout = find_checkout(cwd)
    if checkout is None:
        raise NotResolved(
            f"{os.fsdecode(cwd)} is not in a git repository", "Change to one, or add --app APP --branch NAME"
        )
    app = _app_of(resolver, checkout)
    if app is None:
        raise NotResolved(
            f"the repository {os.fsdecode(checkout.common_dir)} is not registered",
            "Register it with 'provisioner init', or add --app APP",
        )
    return app


def _commit(app: FoundApp, revision: str, cwd: bytes) -> str:
    """The commit of a revision, resolved in the checkout that `cwd` is in if it is the app's; an id is taken as it is."""
    if len(revision) >= SHORTEST_REVISION and not revision.lower().strip("0123456789abcdef"):
        return revision.lower()
    from provisioner.git.refs import commit_of

    checkout = find_checkout(cwd)
    ours = checkout is not None and app.git_dir in (checkout.common_dir, origin_directory(checkout.common_dir))
    found = commit_of(checkout.git_dir if checkout is not None and ours else app.git_dir, revision)
    if found is None:
        raise NotResolved(f"{revision!r} is not a commit of app {app.slug!r}", "Use a commit id, a branch, or a tag")
    return found


def _app_of(resolver: Resolver, checkout: Checkout) -> FoundApp | None:
    """Raises `WrongRepository` if the repository has the path of one app and the id of another."""
    app = resolver.app(git_dir=checkout.common_dir)
    if app is None:
        for app_id in app_ids(checkout.common_dir):
            other = resolver.app(app_id=app_id)
            if other is not None and not other.git_dir.startswith(b"detached:"):  # an app of a copied home has none yet
                raise found_elsewhere(other.id, other.slug, other.git_dir, checkout.common_dir)
        origin = origin_directory(checkout.common_dir)
        app = resolver.app(git_dir=origin) if origin is not None else None
    if app is not None:
        _must_be_its_own(resolver.home, app)
    return app


def _must_be_its_own(home: Home, app: FoundApp) -> None:
    """Raises `WrongRepository` if another repository is at the app's path."""
    if app.id in app_ids(app.git_dir):
        return
    from provisioner.reconcile.repository_identity import must_be_its_own, wrong
    from provisioner.registry.store import Registry
    from provisioner.system.looking import may_change

    with Registry.open(home) as registry:
        full = registry.app(app.id)
        if full is None:
            return
        if may_change():
            must_be_its_own(registry, full)
        elif problem := wrong(registry, full):
            raise problem


def _timeline(app: FoundApp, selectors: Selectors, cwd: bytes, environ: Environ) -> bytes:
    if selectors.timeline is not None:
        return os.fsencode(selectors.timeline)
    if selectors.branch is not None:
        branch = os.fsencode(selectors.branch)
        return PRODUCTION if branch == app.production else BRANCH_PREFIX + branch
    checkout = find_checkout(cwd)
    if checkout is None:
        raise NotResolved(f"{os.fsdecode(cwd)} is not in a git repository", "Add --branch NAME")
    if checkout.top is None:
        raise NotResolved("a bare repository has no branch checked out", "Add --branch NAME")
    current = current_branch(checkout, environ)
    if current.unborn:
        raise NotResolved(
            f"branch {os.fsdecode(current.name)!r} has no commit yet, so it has no database", "Commit something on it"
        )
    production = current.name == app.production
    if production and current.merge_request:
        raise NotResolved(
            f"the CI variables say that this is a merge request from a branch named {os.fsdecode(current.name)!r}, like"
            " the production branch; it does not get production's data",
            "Choose the timeline: --timeline production, or --branch NAME",
        )
    if selectors.app is not None:
        _must_be_of_app(app, checkout)
    return PRODUCTION if production else BRANCH_PREFIX + current.name


def _must_be_of_app(app: FoundApp, checkout: Checkout) -> None:
    """A branch of one repository does not determine another's timeline: `main` there would be production here."""
    here = (checkout.common_dir, origin_directory(checkout.common_dir))
    if app.git_dir not in here:
        raise NotResolved(
            f"this directory is not a checkout of app {app.slug!r}, so its branch does not determine the timeline",
            "Add --branch NAME",
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
    """The steps before a program can start; their output is not mixed with the program's."""
    import sys

    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
