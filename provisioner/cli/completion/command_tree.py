"""The commands with their options and arguments as plain data, which each Tab reads without loading any command.

Loading all commands takes half a second, so the tree is kept in the user's cache until a file of the command line changes.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import click

Node = dict[str, "Any"]
"""``summary``; ``commands`` by name; ``options``: by each of their names the summary and the words that stand for a value,
null for a flag; ``arguments``: the words of each position; ``repeats``: the last one may be there several times."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def tree(environ: dict[str, str]) -> Node:
    """Read from the cache, or made and stored there. Failing to write the cache is ignored."""
    path = os.path.join(_cache(environ), "completion.json")
    key = _key()
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["key"] == key:
            found: Node = kept["tree"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = build()
    _keep(path, {"key": key, "tree": made})
    return made


def build() -> Node:
    """The tree of every command that is not hidden."""
    from provisioner.cli.main import cli

    return _node(cli)


def _cache(environ: dict[str, str]) -> str:
    base = environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return os.path.join(base, "provisioner")


def _key() -> list[object]:
    """Another one after each change of the command line's files."""
    found: list[object] = []
    for directory, _, names in os.walk(_HERE):
        for name in names:
            if name.endswith(".py"):
                state = os.stat(os.path.join(directory, name))
                found.append([name, state.st_mtime_ns, state.st_size])
    return sorted(found, key=str)


def _keep(path: str, document: object) -> None:
    from provisioner.system.atomic_file import replace_file
    from provisioner.system.home import FILE_MODE

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, json.dumps(document).encode(), FILE_MODE)
    except OSError:
        pass


def _node(command: click.Command) -> Node:
    import click

    context = click.Context(command, info_name=command.name)
    node: Node = {"summary": command.get_short_help_str(200), "commands": {}, "options": {}, "arguments": []}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                node["commands"][name] = _node(below)
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            if parameter.hidden:
                continue
            value = None if parameter.is_flag or parameter.count else _words(parameter, context)
            for name in (*parameter.opts, *parameter.secondary_opts):
                node["options"][name] = [(parameter.help or "").partition(". ")[0], value]
        else:
            node["arguments"] += _positions(parameter, context)
            node["repeats"] = parameter.nargs == -1 and "..." in parameter.make_metavar(context)
    return node


def _words(parameter: click.Parameter, context: click.Context) -> list[str]:
    """What may stand for a value: choices and words as they are, and kinds (``APP``, ``FILE``) in capitals."""
    import click

    if isinstance(parameter.type, click.Choice):
        return [str(choice) for choice in parameter.type.choices]
    if isinstance(parameter.type, click.Path):
        return ["FILE"]
    return parameter.make_metavar(context).strip("[]").split("|")


def _positions(parameter: click.Parameter, context: click.Context) -> list[list[str]]:
    """``TARGET [FILE]`` are two, ``[NAME=VALUE | NAME]...`` is one."""
    text = parameter.make_metavar(context).replace(" | ", "|").replace("...", "")
    return [word.strip("[]").split("|") for word in text.split()]
