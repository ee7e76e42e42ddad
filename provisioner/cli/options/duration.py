"""The value of an option that is a length of time."""

from __future__ import annotations

import click

from provisioner.cli.context import renamed
from provisioner.core.durations import milliseconds


class DurationType(click.ParamType[str]):
    """``90min``, with a unit. A number alone meant seconds, and still does for one release, with a note."""

    name = "duration"

    def __init__(self, *words: str) -> None:
        self._words = words
        self._metavar = "|".join(("DURATION", *words))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self._metavar

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text. Raises UsageError; without a context it notes nothing."""
        text = str(value).strip()
        if text in self._words:
            return text
        milliseconds(text)
        if text.isdecimal() and int(text) and param is not None and ctx is not None and not ctx.resilient_parsing:
            renamed(f"{param.opts[0]} {text}", f"{param.opts[0]} {text}s")
        return text


DURATION = DurationType()
OR_NEVER = DurationType("never")
