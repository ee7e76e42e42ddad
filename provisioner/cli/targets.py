"""Targets of commands, looked up: timelines with their databases, and their data at a moment: the snapshots that hold it, by id,
label, commit, or time, or the timeline that it was forked from."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

from provisioner.cli.common_options import explain, note
from provisioner.cli.context import apps_meant, the_app, the_home
from provisioner.cli.selectors import TIMELINE, NamedTarget
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import Ambiguous, NotResolved, UsageError
from provisioner.core.model import App, Snapshot, Timeline
from provisioner.core.moments import moment
from provisioner.core.naming import shown
from provisioner.core.nearest import nearest
from provisioner.core.unconnected import RECONCILE
from provisioner.environment.resolve import Selectors, commit_meant, here, timeline_here
from provisioner.operations import lookup
from provisioner.operations import snapshots as by_id
from provisioner.operations.documents import Document, timeline, timelines
from provisioner.operations.reconcile_now import run
from provisioner.operations.target import Target, of_timeline
from provisioner.reconcile.changes.revision_snapshots import REVISION
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry
from provisioner.system.looking import may_change

PARENT = "parent"


def load(registry: Registry, wanted: NamedTarget, app: App | None = None) -> Target:
    """The timeline and its databases, in `app` unless another app is given. A branch that git has and the registry does not
    know yet is provisioned first, unless nothing may be changed. Raises NotResolved."""
    if wanted.moment is not None:
        return _at_moment(registry, wanted, app)
    target = _loaded(registry, wanted, app)
    explain(f"{target.name} of {target.app.slug}, {_found_by(wanted)}")
    by_itself = wanted.text is not None and lookup.called(registry, wanted.text)
    if not by_itself and not lookup.is_as_known(
        target.app, target.timeline
    ):  # git may have given its name to another branch
        if not may_change():
            note(f"provisioner: note: git has changed {target.name} since the last reconcile. {RECONCILE}")
            return target
        run(registry, target.app, "database", TERMINAL, retry=False)
        target = _loaded(registry, wanted, app)
    return target


def _found_by(wanted: NamedTarget) -> str:
    """What has said which timeline is meant."""
    if wanted.text is not None:
        return f"by the name {shown(wanted.text)}"
    said = [name for name in TIMELINE[1:] if getattr(wanted.selectors, name) is not None]
    return f"by --{said[0]}" if said else "by the branch that is checked out here"


def _at_moment(registry: Registry, wanted: NamedTarget, app: App | None) -> Target:
    target = load(registry, replace(wanted, moment=None), app)
    if wanted.moment != PARENT:
        raise UsageError(
            f"{target.name}@{{{wanted.moment}}} is data of the past, which can only be read",
            f"To restore it, run: provisioner database restore {target.name} {shlex.quote(str(wanted.moment))}",
        )
    return parent(registry, target)


def load_to_read(registry: Registry, wanted: NamedTarget, app: App | None = None) -> Target:
    """As `load`, and for ``NAME@{MOMENT}`` the data of that moment. Raises NotResolved."""
    if wanted.moment in (None, PARENT):
        return load(registry, wanted, app)
    target = load(registry, replace(wanted, moment=None), app)
    past = tuple(at(registry, target, str(wanted.moment)))
    taken = rfc3339(min(item.created_at for item in past))
    note(f"provisioner: note: {target.name}@{{{wanted.moment}}} is snapshot {past[0].id[:8]}, taken at {taken}")
    return replace(target, past=past)


def exact(wanted: NamedTarget) -> Selectors:
    """Selectors with the same meaning, for code that looks a timeline up by them. Raises NotResolved."""
    with Registry.open(the_home()) as registry:
        found = load(registry, wanted)
    only = found.instances[0].slug if found.narrowed else None
    return Selectors(found.app.slug, timeline=os.fsdecode(found.timeline.name), instance=only)


def load_timeline(registry: Registry, wanted: NamedTarget) -> tuple[App, Timeline]:
    """The named timeline, or that of the named database."""
    found = load(registry, wanted)
    return found.app, found.timeline


def _loaded(registry: Registry, wanted: NamedTarget, usual: App | None = None) -> Target:
    selectors = wanted.selectors
    if wanted.text is None:
        app = the_app(registry, selectors.app)
        return of_timeline(registry, app, _selected(registry, app, selectors), selectors.instance)
    anywhere = selectors.app is None
    try:
        found: App | None = usual if usual and anywhere else the_app(registry, selectors.app)
    except NotResolved:
        if not anywhere or not lookup.called(registry, wanted.text):
            raise
        found = None
    return lookup.target(registry, found, wanted.text, TERMINAL, selectors.instance, anywhere=anywhere)


def _selected(registry: Registry, app: App, selectors: Selectors) -> Timeline:
    if selectors.revision is None:
        name = timeline_here(registry.home, selectors, here(), os.environ)
        return lookup.timeline_meant(registry, app, name, TERMINAL, exact=True)
    commit = commit_meant(registry.home, selectors, here())
    found = lookup.at_revision(registry, app, commit, missing_ok=True)
    if found is None:
        if may_change():
            run(registry, app, "timeline", TERMINAL, retry=False)
        found = lookup.at_revision(registry, app, commit)
    assert found is not None  # noqa: S101
    return found


def filtered(registry: Registry, wanted: NamedTarget, everything: bool) -> list[Document]:
    """The documents of an app's timelines, of `everything`, or of one timeline and instance."""
    if everything and wanted.narrowed:
        raise UsageError("--all and a target cannot be used together", "Omit one")
    instance = wanted.selectors.instance
    if not wanted.names_timeline:
        apps = apps_meant(registry, wanted.selectors.app, everything)
        return [
            item for app in apps for item in timelines(registry, app) if instance is None or _keep_only(item, instance)
        ]
    target = load(registry, wanted)
    document = timeline(registry, target.app, target.timeline)
    if document is None:
        raise NotResolved(f"timeline {target.name} and its data were permanently deleted", "See: provisioner status")
    if wanted.text is not None and target.narrowed and instance is None:  # one database
        ids = {item.id for item in target.own}
        document["databases"] = [item for item in document["databases"] if item["id"] in ids]
    return [document] if instance is None or _keep_only(document, instance) else []


def _keep_only(document: Document, instance: str) -> bool:
    """Keep only the timeline's databases on the instance. Returns whether it has any."""
    document["databases"] = [item for item in document["databases"] if item["instance"] == instance]
    return bool(document["databases"])


def at(registry: Registry, target: Target, text: str) -> list[Snapshot]:
    """The snapshots of a target that MOMENT means, one of each of its databases. Raises NotResolved, Ambiguous."""
    kept = {item.id: rows.snapshots(registry, item.id) for item in target.used or target.own}
    every = [snapshot for each in kept.values() for snapshot in each]
    found = _named(registry, target, text, every)
    if found:
        return found
    try:
        when = moment(text, now_ms())
    except UsageError as error:
        if len(text) >= by_id.SHORTEST_ID and rows.find_snapshots(registry, text):  # of another database
            return by_id.of_target(registry, target, by_id.find(registry, text))
        labels = {item.label for item in every if item.label}
        raise NotResolved(
            f"{target.name} has no snapshot {shown(text)!r}",
            f"List them: provisioner database snapshot list {target.name}",
            candidates=nearest(text, labels),
        ) from error
    return _before(registry, target, when, next(iter(kept.values()), []))


def parent(registry: Registry, target: Target) -> Target:
    """The timeline that a target's databases were forked from. Raises NotResolved if there is none, or if there are several."""
    origins = [registry.database(item.forked_from) for item in target.live if item.forked_from is not None]
    ids = {item.timeline_id for item in origins if item is not None}
    if not ids:
        raise NotResolved(
            f"{target.name} was not forked from another timeline", "Choose the other one, for example: production"
        )
    found = [registry.timeline(each) for each in ids]
    if len(found) > 1:
        names = [shown(item.name) for item in found]
        raise Ambiguous(
            f"the databases of {target.name} were forked from {' and '.join(names)}", "Choose one", candidates=names
        )
    slug = target.instances[0].slug if target.narrowed else None
    return of_timeline(registry, target.app, found[0], slug)


def _named(registry: Registry, target: Target, text: str, every: list[Snapshot]) -> list[Snapshot]:
    """By the beginning of an id, a label, or a commit. Raises Ambiguous if that means several."""
    hexadecimal = not text.lower().strip("0123456789abcdef-")
    ids = [item for item in every if len(text) >= by_id.SHORTEST_ID and item.id.startswith(text.lower())]
    commits = [
        item
        for item in every
        if hexadecimal and len(text) >= by_id.SHORTEST_REVISION and item.revision.startswith(text.lower())
    ]
    commits = [item for item in commits if item.cause == REVISION] or commits
    readings = [ids, [item for item in every if item.label == text], commits]
    newest = {max(each, key=lambda item: item.created_at).id: each for each in readings if each}
    if len(newest) > 1 or len({item.set_id or item.id for item in ids}) > 1:
        there = [item.id for each in readings for item in each]
        raise Ambiguous(
            f"{shown(text)!r} means several snapshots of {target.name}",
            f"Use the id of one: {', '.join(dict.fromkeys(there))}",
            candidates=tuple(dict.fromkeys(there)),
        )
    return [] if not newest else by_id.of_target(registry, target, rows.find_snapshots(registry, next(iter(newest)))[0])


def _before(registry: Registry, target: Target, when: int, kept: list[Snapshot]) -> list[Snapshot]:
    """The latest that was taken by then, of all of the target's databases together."""
    for snapshot in kept:
        if snapshot.created_at <= when:
            return by_id.of_target(registry, target, snapshot)
    oldest = f"the oldest is of {rfc3339(kept[-1].created_at)}" if kept else "it has none"
    raise NotResolved(
        f"{target.name} has no snapshot from {rfc3339(when)} or before: {oldest}",
        f"List them: provisioner database snapshot list {target.name}",
    )
