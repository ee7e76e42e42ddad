"""Groups of commands that import a command's module when it is used, and suggest the nearest name for a mistyped one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.exceptions import NoSuchCommand

from provisioner.cli.common_options import add_common_options
from provisioner.system.signals import fatal_interrupts


class LazyGroup(click.Group):
    """`elsewhere` has the commands by their names, each as ``module:attribute``; they follow the group's own commands."""

    def __init__(self, *args: Any, elsewhere: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._elsewhere[cmd_name].partition(":")
        with fatal_interrupts():
            return add_common_options(getattr(importlib.import_module(module), name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)


class AliasedGroup(click.Group):
    """A group whose commands have second names that its help does not list."""

    def __init__(self, *args: Any, aliases: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._aliases = aliases

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))


class SectionedGroup(LazyGroup):
    """A group whose help lists its commands under headings, the most used first."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **options: Any) -> None:
        elsewhere = {name: place for commands in sections.values() for name, place in commands.items()}
        super().__init__(*args, elsewhere=elsewhere, **options)
        self._sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._elsewhere))
        for heading, commands in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), self._summary(ctx, name)) for name in commands])

    def _summary(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=200) if command is not None else ""


def words_of(arguments: Sequence[str]) -> list[str]:
    """``help X Y`` as ``X Y --help``; any other words as they are."""
    return [*arguments[1:], "--help"] if list(arguments[:1]) == ["help"] else list(arguments)
