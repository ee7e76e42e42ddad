"""The options of `provisioner app set` for operators' hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.core.errors import UsageError
from provisioner.registry.events import HOOKS

_Command = TypeVar("_Command", bound=Callable[..., Any])

_WHEN = {
    "on-connected": "programs can start on a timeline, or must be restarted",
    "on-healthy": "a timeline's app is healthy",
    "on-gone": "a timeline's branch is gone, before its databases are archived",
}


def hook_options(command: _Command) -> _Command:
    """For each hook an option with its command and one that removes it, handed on as `hooks`: commands, or nothing."""

    @wraps(command)
    def with_hooks(*args: Any, **options: Any) -> Any:
        found: dict[str, str] = {}
        for kind in HOOKS:
            name = kind.replace("-", "_")
            text, removed = options.pop(name), options.pop(f"no_{name}")
            if text is not None and removed:
                raise UsageError(f"--{kind} and --no-{kind} cannot be used together", "Choose one")
            if text is not None and not text.strip():
                raise UsageError(f"--{kind} needs a command", f"To remove the hook, use --no-{kind}")
            if text is not None or removed:
                found[kind] = text or ""
        return command(*args, hooks=found, **options)

    decorated: Any = with_hooks
    for kind in reversed(HOOKS):
        decorated = click.option(f"--no-{kind}", is_flag=True, help=f"Remove the hook {kind}.")(decorated)
        decorated = click.option(
            f"--{kind}", metavar="CMD", help=f"Your command to run when {_WHEN[kind]}. It is not confined."
        )(decorated)
    return decorated  # type: ignore[no-any-return]
