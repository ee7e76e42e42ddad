"""Commands whose options can be in `config.toml`: `up`, `serve`, and `watch`.

An option wins over its environment variable, that over this file, and this over the default. Only the home has such a file,
because every push can change the files of a repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from provisioner.cli.common_options import COLORS
from provisioner.cli.options.config_table import COLOR, path_of, table
from provisioner.cli.options.server_options import PREVIEW_OPTIONS, SERVER_OPTIONS
from provisioner.core.counts import counted
from provisioner.core.errors import UsageError
from provisioner.core.nearest import nearest
from provisioner.system.home import home_directory

KNOWN = frozenset(name.removeprefix("--") for name in (*SERVER_OPTIONS, *PREVIEW_OPTIONS, "--log-format", COLOR))


def read(home: str, command: click.Command) -> dict[str, Any]:
    """The file's values by the names of the command's parameters; empty if there is no file. Raises UsageError."""
    path = path_of(home)
    options = {str(each.name): each for each in command.params if isinstance(each, click.Option)}
    found: dict[str, Any] = {}
    for key, value in table(path).items():
        if key not in KNOWN:
            near = nearest(key, set(KNOWN))
            raise UsageError(f"{path} has an unknown option {key!r}", "See: provisioner up --help", candidates=near)
        if key == COLOR:  # it must not become --color, which takes precedence over NO_COLOR
            _must_be_a_color(path, value)
            continue
        name = key.replace("-", "_")
        if name in options:
            _must_fit(path, key, options[name], value)
            found[name] = value
    return found


def _must_be_a_color(path: str, value: object) -> None:
    if value not in COLORS:
        known = f"{', '.join(COLORS[:-1])}, or {COLORS[-1]}"
        raise UsageError(f"{path}: {COLOR} takes {known}, not {value!r}", "Correct it, or remove the line")


def _must_fit(path: str, key: str, option: click.Option, value: object) -> None:
    if option.is_flag != isinstance(value, bool) or isinstance(value, dict | list):
        kind = "true or false" if option.is_flag else "one value"
        raise UsageError(f"{path}: {key} takes {kind}, not {value!r}", "Correct it, or remove the line")
    if isinstance(value, float) and isinstance(option.type, type(click.INT)):
        raise UsageError(f"{path}: {key} takes a whole number, not {value!r}", "Correct it, or remove the line")
    try:
        option.type.convert(value, None, None)
    except (click.BadParameter, UsageError) as error:
        raise UsageError(f"{path}: {key}: {error.message.rstrip('.')}", "Correct it, or remove the line") from error


def finding(home: str, command: click.Command) -> Iterator[tuple[str, bool, str]]:
    """For `doctor`: whether the command can use the file, if there is one."""
    try:
        if os.path.exists(path_of(home)):
            read(home, command)
            yield "config", True, f"{path_of(home)} has {counted(len(table(path_of(home))), 'option')}"
    except UsageError as error:
        yield "config", False, str(error)


class _Defaults(Mapping[str, Any]):
    """The file's values, which are read when click looks up the first one: not for --help."""

    def __init__(self, command: click.Command) -> None:
        self._command = command
        self._read: dict[str, Any] | None = None

    def _values(self) -> dict[str, Any]:
        if self._read is None:
            self._read = read(home_directory(os.environ), self._command)
        return self._read

    def __getitem__(self, name: str) -> Any:
        return self._values()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())


class ConfiguredCommand(click.Command):
    """A command whose options can be in `config.toml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.default_map = _Defaults(self)  # type: ignore[assignment]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        ctx.default_map = None  # it shows the defaults of the options, whatever is in the file
        return super().get_help(ctx)
