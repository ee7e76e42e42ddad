"""The options that say what an instance allows its databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from provisioner.cli.context import with_options
from provisioner.core.allowance import AllowanceChange

_OPTIONS: dict[str, dict[str, Any]] = {
    "--trusted-extensions": {
        "metavar": "LIST",
        "help": "Extensions that 'database load' may install, with commas between them. Default: default, which stands for"
        " those that PostgreSQL itself trusts.",
    },
}


def allowance_options(command: Callable[..., None]) -> Callable[..., None]:
    """What they say comes as the argument `allowed`."""

    @wraps(command)
    def called(*arguments: object, trusted_extensions: str | None, **others: object) -> None:
        command(*arguments, allowed=AllowanceChange(trusted_extensions), **others)

    return with_options(called, _OPTIONS)
