"""Databases and timelines by their names and ids: what a name on a command line or in a form refers to."""

from __future__ import annotations

import os

from provisioner.core.counts import counted
from provisioner.core.errors import Ambiguous, NotResolved
from provisioner.core.model import App, Database, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PRODUCTION, shown
from provisioner.core.nearest import nearest
from provisioner.core.unconnected import RECONCILE, NotYet
from provisioner.engines.postgres import names
from provisioner.git.lineage import unchanged
from provisioner.git.refs import read_branches
from provisioner.operations import target as targets
from provisioner.operations.proposal import ProgressReporter
from provisioner.operations.reconcile_now import run
from provisioner.operations.target import Target
from provisioner.registry import queries
from provisioner.registry.store import Registry
from provisioner.system.looking import may_change

SHORTEST_REVISION = 7
_HEX = frozenset("0123456789abcdef")
_PARTS = 2  # the kind and the instance, before the id in a name that a server has; no other name has an underscore

OF_BRANCH = "git-branch/"


def find(registry: Registry, name: str) -> tuple[App, Database]:
    """A database by its name, or by its id (or its first characters). A live one precedes archived ones of its name."""
    return _only(registry, name, called(registry, name))


def _only(registry: Registry, name: str, found: list[tuple[App, Database]]) -> tuple[App, Database]:
    live = [pair for pair in found if pair[1].live]
    if len(live) == 1:
        return live[0]
    if len(found) == 1:
        return found[0]
    if found:
        each = (f"{item.id} ({item.status} on {registry.instance_of(item.instance_id).slug})" for _, item in found)
        raise Ambiguous(
            f"{counted(len(found), 'database')} are named {name!r}",
            f"Choose one by its id: {', '.join(each)}",
            candidates=[item.id for _, item in found],
        )
    raise NotResolved(f"no database named {name!r}", "List databases: provisioner database list --all")


def called(registry: Registry, text: str) -> list[tuple[App, Database]]:
    """The databases with this name, with an id that starts with it, or with this name on a server."""
    return queries.databases_called(registry, text, names.id_of(text) if text.count("_") >= _PARTS else text)


def target(
    registry: Registry,
    app: App | None,
    text: str,
    reporter: ProgressReporter,
    instance: str | None = None,
    *,
    anywhere: bool = False,
) -> Target:
    """What a name refers to: a database by its name or id, in the app or `anywhere`; in the app, a timeline by its name as in
    ``DENO_TIMELINE`` or by its branch, or the timeline at a commit.

    A branch that git has and the registry does not know yet is provisioned first. Raises NotResolved, including for a name
    with two meanings.
    """
    found = [pair for pair in called(registry, text) if anywhere or (app is not None and pair[0].id == app.id)]
    timeline = _known(registry, app, text) if app is not None else None
    if found:
        owner, database = _only(registry, text, found)
        if timeline is not None and timeline.id != database.timeline_id:
            raise Ambiguous(
                f"{text!r} is a database of {shown(registry.timeline(database.timeline_id).name)}, and {shown(timeline.name)}"
                " is called so too",
                f"Use {database.id} for the one, {shown(timeline.name)} for the other",
                candidates=[database.id, shown(timeline.name)],
            )
        meant = targets.of_database(registry, owner, database)
        slug = meant.instances[0].slug
        if instance not in (None, slug):
            raise NotResolved(f"database {database.name!r} is on instance {slug!r}, not on {instance!r}", "Omit one")
        return meant
    if app is None:
        raise NotResolved(f"no database named {text!r}", "List databases: provisioner database list --all")
    if timeline is None:
        timeline = timeline_named(registry, app, os.fsencode(text), reporter)
    if timeline is None:
        _must_not_be_new(app, os.fsencode(text))
        raise NotResolved(
            f"app {app.slug!r} has no branch, timeline, or database {shown(text)!r}",
            f"List databases: provisioner database list --app {app.slug}",
            candidates=near(registry, app, text),
        )
    return targets.of_timeline(registry, app, timeline, instance)


def _known(registry: Registry, app: App, text: str) -> Timeline | None:
    """A timeline by its own or its branch's name, else by its commit."""
    found = known_timeline(registry, app, os.fsencode(text), exact=False)
    if found is None and len(text) >= SHORTEST_REVISION and _HEX.issuperset(text.lower()):
        return at_revision(registry, app, text, missing_ok=True)
    return found


def at_revision(registry: Registry, app: App, revision: str, *, missing_ok: bool = False) -> Timeline | None:
    """The preview of a commit whose id starts so, else the only timeline at it. Raises NotResolved."""
    found = queries.timelines_at(registry, app.id, revision.lower())
    found = [item for item in found if item.preview] or found
    if len(found) > 1:
        there = ", ".join(shown(item.name) for item in found)
        raise Ambiguous(
            f"{counted(len(found), 'timeline')} are at revision {revision}: {there}",
            "Choose one: --branch BRANCH",
            candidates=[shown(item.name) for item in found],
        )
    if not found and not missing_ok:
        raise NotResolved(
            f"no timeline of app {app.slug!r} is at revision {revision}", "List timelines: provisioner timeline list"
        )
    return found[0] if found else None


def is_as_known(app: App, timeline: Timeline) -> bool:
    """Whether the branch of this name is the one that had it at the last look. Without the repository, that look counts."""
    if not timeline.of_branch or not os.path.isdir(app.git_dir):
        return True
    return unchanged(app.git_dir, app.id, timeline.branch, timeline.lineage)


def timeline_named(
    registry: Registry, app: App, name: bytes, reporter: ProgressReporter, *, exact: bool = False
) -> Timeline | None:
    """A timeline by its branch, or by its name as in ``DENO_TIMELINE``, with `exact` only by that. A new one is created first,
    unless nothing may be changed.

    Raises NotResolved if the name is that of one timeline and of another one's branch.
    """
    found = known_timeline(registry, app, name, exact=exact)
    if found is None and may_change():
        run(registry, app, "timeline", reporter, retry=False)
        found = known_timeline(registry, app, name, exact=exact)
    return found


def timeline_meant(
    registry: Registry, app: App, name: bytes, reporter: ProgressReporter, *, exact: bool = False
) -> Timeline:
    """Like `timeline_named`, for a timeline that must exist. Raises NotResolved."""
    found = timeline_named(registry, app, name, reporter, exact=exact)
    if found is None:
        _must_not_be_new(app, name)
        raise NotResolved(
            f"app {app.slug!r} has no branch or timeline {shown(name)!r}",
            "List timelines: provisioner timeline list",
            candidates=near(registry, app, os.fsdecode(name)),
        )
    return found


def near(registry: Registry, app: App, text: str) -> tuple[str, ...]:
    """The branches, and else the timelines, of an app whose names are most like this."""
    there = [item for item in registry.timelines(app.id) if not item.preview]
    branches = [item.branch for item in there]
    if text.startswith(OF_BRANCH):  # which every branch's timeline has, so that it makes none of them similar
        return tuple(f"{OF_BRANCH}{name}" for name in nearest(text.removeprefix(OF_BRANCH), branches))
    return nearest(text, branches) or nearest(text, [item.name for item in there])


def _must_not_be_new(app: App, name: bytes) -> None:
    """Raises NotResolved if git has a branch of this name, of which the registry knows nothing yet."""
    branch = name.removeprefix(BRANCH_PREFIX)
    if os.path.isdir(app.git_dir) and branch in read_branches(app.git_dir):
        raise NotYet(f"branch {shown(branch)!r} of app {app.slug!r} has no databases yet", RECONCILE)


def timeline_of(registry: Registry, database: Database) -> Timeline:
    return registry.timeline(database.timeline_id)


def known_timeline(registry: Registry, app: App, name: bytes, *, exact: bool) -> Timeline | None:
    """By the name of a timeline or, unless `exact`, of a branch. Raises NotResolved if it is both."""
    if exact:
        return queries.timeline_called(registry, app.id, name)
    if name == app.production:
        return queries.timeline_called(registry, app.id, PRODUCTION)
    timeline = queries.timeline_called(registry, app.id, name)
    branch = queries.timeline_called(registry, app.id, BRANCH_PREFIX + name)
    if timeline is not None and branch is not None and branch.gone_at is None:
        other = (
            f"{shown(app.production)} for production's" if timeline.production else "its database's name for the other"
        )
        raise Ambiguous(
            f"{shown(name)} is a timeline of app {app.slug!r}, and also the name of a branch",
            f"Use {shown(branch.name)} for the branch's, {other}",
            candidates=[shown(branch.name), shown(app.production) if timeline.production else shown(name)],
        )
    return timeline or branch
