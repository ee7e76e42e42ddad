"""The target of a command, parsed in one place: a TARGET, the options that stand for one, or the branch checked out here.

``[APP:]NAME``: NAME is a branch, a timeline as ``DENO_TIMELINE`` has it, a commit, or a database by its name or id; ``@``
is the timeline of this checkout. ``--branch``, ``--timeline`` and ``--revision`` each stand for a NAME that has one
meaning only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli import moments
from provisioner.cli.common_options import explain, note
from provisioner.cli.context import apps_meant, the_app, the_home
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import rfc3339
from provisioner.core.errors import NotResolved, UsageError
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.core.unconnected import RECONCILE
from provisioner.environment.resolve import Selectors, commit_meant, here, timeline_here
from provisioner.operations import lookup
from provisioner.operations.documents import Document, timeline, timelines
from provisioner.operations.reconcile_now import run
from provisioner.operations.target import Target, of_timeline
from provisioner.registry.store import Registry
from provisioner.system.looking import may_change

_Command = TypeVar("_Command", bound=Callable[..., Any])

HERE = "@"
HELP = {
    "app": "The app. Default: the app for the current directory.",
    "branch": "Use this branch's timeline. Default: the checked-out branch.",
    "timeline": "The timeline: production, git-branch/NAME, or preview/COMMIT.",
    "revision": "The timeline at this commit, as anything that git resolves to one.",
    "instance": "Only the timeline's database on this instance.",
}
TIMELINE = ("app", "branch", "timeline", "revision")
ALL = (*TIMELINE, "instance")


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """What a command is about, not looked up yet. `text` is a NAME; None: what the selectors say, else the checkout, which is
    named explicitly if it is `checked_out`."""

    selectors: Selectors
    text: str | None = None
    checked_out: bool = False
    moment: str | None = None  # behind NAME: @{MOMENT}

    @property
    def by_selector(self) -> bool:
        return any((self.selectors.branch, self.selectors.timeline, self.selectors.revision))

    @property
    def narrowed(self) -> bool:
        """Whether more than the app is given."""
        return self.names_timeline or self.selectors.instance is not None

    @property
    def names_timeline(self) -> bool:
        return self.text is not None or self.checked_out or self.by_selector


def selector_options(*names: str) -> Callable[[_Command], _Command]:
    """The options with these names, handed on as `selectors`. They mean the same in every command."""

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def with_selectors(*args: Any, **options: Any) -> Any:
            selectors = Selectors(**{name: options.pop(f"select_{name}") for name in names})
            selectors.must_be_one()
            return command(*args, selectors=selectors, **options)

        options = {name: {"metavar": name.upper(), "help": HELP[name]} for name in names}
        for name, settings in reversed(options.items()):
            with_selectors = click.option(f"--{name}", f"select_{name}", **settings)(with_selectors)  # type: ignore[arg-type]
        return with_selectors  # type: ignore[return-value]

    return decorate


def object_argument(name: str, kind: str, *, required: bool) -> Callable[[_Command], _Command]:
    """A command's object, by its position or by the option of its kind (``app``, ``instance``), handed on as `name`."""
    option, metavar = f"--{kind}", kind.upper()

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def with_object(*args: Any, positional: str | None, selected: str | None, **others: Any) -> Any:
            if None not in (positional, selected) and positional != selected:
                raise UsageError(f"{positional!r} and {option} {selected} cannot be used together", "Omit one")
            found = positional if selected is None else selected
            if found is None and required:
                raise click.UsageError(f"Missing argument '{metavar}'.")
            return command(*args, **{name: found}, **others)

        shown_as = metavar if required else f"[{metavar}]"
        with_option = click.option(option, "selected", metavar=metavar, help=f"The same as {metavar}.")(with_object)
        return click.argument("positional", required=False, metavar=shown_as)(with_option)  # type: ignore[return-value]

    return decorate


def target_argument(
    metavar: str = "[TARGET]",
    *,
    required: bool = False,
    least: int = 0,
    most: int = 0,
    options: tuple[str, ...] = ALL,
    unparsed: bool = False,
) -> Callable[[_Command], _Command]:
    """A TARGET and the options that can stand for it, handed on as `wanted`; after it `least` to `most` other words, handed
    on as `words` if there can be any. `unparsed`: it may be a file or a URL."""

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def with_target(*args: Any, selectors: Selectors, targets: tuple[str, ...], **others: Any) -> Any:
            words = list(targets)
            wanted = NamedTarget(selectors)
            if not wanted.by_selector and words and (required or len(words) > least):
                text = words.pop(0)
                wanted = NamedTarget(selectors, text) if unparsed else parse(text, selectors)
            elif required and not wanted.by_selector:
                raise click.UsageError(f"Missing argument '{metavar.split()[0].strip('[]')}'.")
            if len(words) < least:
                raise click.UsageError(f"Missing argument '{metavar.split()[-1].strip('[]')}'.")
            if len(words) > most:
                given = (wanted.by_selector and not most and "; a selector stands for TARGET already") or ""
                raise click.UsageError(f"Got unexpected extra argument ({words[most]}){given}")
            if most:
                others["words"] = words
            return command(*args, wanted=wanted, **others)

        with_words = click.argument("targets", nargs=-1, metavar=metavar)(with_target)
        return selector_options(*options)(with_words)  # type: ignore[return-value]

    return decorate


def parse(text: str, selectors: Selectors) -> NamedTarget:
    """A TARGET as it was typed. Raises UsageError if a selector is given as well as it."""
    said = NamedTarget(selectors)
    if said.by_selector:
        raise UsageError(f"{text!r} and --branch, --timeline or --revision cannot be used together", "Choose one")
    whole, (text, moment) = text, divided(text)
    app, colon, name = text.partition(":")  # git allows no colon in a branch's name
    if not colon:
        app, name = "", text
    name = HERE if moment is not None and not name else name  # @{MOMENT} is the checkout's
    if not name or (colon and not app) or moment == "":
        raise UsageError(f"{whole!r} is not a target", "Use a branch, a timeline, a database, or APP:NAME")
    if app and selectors.app not in (None, app):
        raise UsageError(f"{text!r} and --app {selectors.app} name two apps", "Omit one")
    slug = app or selectors.app
    chosen = Selectors(slug, instance=selectors.instance)
    here = name == HERE
    return NamedTarget(chosen, None if here else name, checked_out=here, moment=moment)


def divided(text: str) -> tuple[str, str | None]:
    """NAME, and the moment of ``NAME@{MOMENT}``; None if it has none. Git allows no ``@{`` in a branch's name."""
    name, at, rest = text.partition("@{")
    return (name, rest.removesuffix("}")) if at and rest.endswith("}") else (text, None)


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
    if wanted.moment != moments.PARENT:
        raise UsageError(
            f"{target.name}@{{{wanted.moment}}} is data of the past, which can only be read",
            f"To restore it, run: provisioner database restore {target.name} {shlex.quote(str(wanted.moment))}",
        )
    return moments.parent(registry, target)


def load_to_read(registry: Registry, wanted: NamedTarget, app: App | None = None) -> Target:
    """As `load`, and for ``NAME@{MOMENT}`` the data of that moment. Raises NotResolved."""
    if wanted.moment in (None, moments.PARENT):
        return load(registry, wanted, app)
    target = load(registry, replace(wanted, moment=None), app)
    past = tuple(moments.at(registry, target, str(wanted.moment)))
    taken = rfc3339(min(item.created_at for item in past))
    note(f"provisioner: note: {target.name}@{{{wanted.moment}}} is snapshot {past[0].id[:8]}, taken at {taken}")
    return replace(target, past=past)


def exact(wanted: NamedTarget) -> Selectors:
    """Selectors with the same meaning, for code that looks a timeline up by them. Raises NotResolved."""
    if wanted.text is None and wanted.moment is None:
        return wanted.selectors
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
