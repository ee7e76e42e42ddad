"""The target of a command, parsed in one place: a TARGET, the options that stand for one, or the branch checked out here.
`provisioner.cli.targets` looks it up.

``[APP:]NAME``: NAME is a branch, a timeline as ``DENO_TIMELINE`` has it, a commit, or a database by its name or id; ``@``
is the timeline of this checkout. ``--branch``, ``--timeline`` and ``--revision`` each stand for a NAME that has one
meaning only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.core.errors import UsageError
from provisioner.environment.resolve import Selectors

_Command = TypeVar("_Command", bound=Callable[..., Any])

HERE = "@"
HELP = {
    "app": "The app. Default: the app for the current directory.",
    "branch": "Use this branch's timeline. Default: the checked-out branch.",
    "timeline": "The timeline: production, git-branch/NAME, or preview/COMMIT.",
    "revision": "The timeline at this commit: an id, a branch, or a tag.",
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
