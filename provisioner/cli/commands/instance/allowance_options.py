"""The options that limit an instance's databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from provisioner.cli.context import with_options
from provisioner.core.allowance import AllowanceChange

_OPTIONS: dict[str, dict[str, Any]] = {
    "--max-connections-per-database": {
        "metavar": "N",
        "help": "Connections to each database at the same time; none: no limit. Default: default, half of the server's.",
    },
    "--max-temp-per-connection": {
        "metavar": "SIZE",
        "help": "Temporary files of each connection, for example 500MB; none: no limit. Default: default, 10GB.",
    },
    "--max-statement-time": {
        "metavar": "DURATION",
        "help": "Time limit for a statement or an idle transaction; none: no limit. Default: default, 24h.",
    },
    "--trusted-extensions": {
        "metavar": "LIST",
        "help": "Extensions that 'database load' may install, separated by commas. Default: default, which stands for"
        " those that PostgreSQL itself trusts.",
    },
}


def allowance_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options, handed on as the argument `allowed`."""

    @wraps(command)
    def called(
        *arguments: object,
        max_connections_per_database: str | None,
        max_temp_per_connection: str | None,
        max_statement_time: str | None,
        trusted_extensions: str | None,
        **others: object,
    ) -> None:
        allowed = AllowanceChange(
            max_connections_per_database, max_temp_per_connection, max_statement_time, trusted_extensions
        )
        command(*arguments, allowed=allowed, **others)

    return with_options(called, _OPTIONS)
