"""How the long-running commands log, to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli.context import json_wanted
from provisioner.cli.options.server_options import in_environment
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import summary
from provisioner.core.naming import shown
from provisioner.system.service_thread import report_to

Log = Callable[..., None]
_Command = TypeVar("_Command", bound=Callable[..., Any])


def log_option(command: _Command) -> _Command:
    """``--log-format``, for which ``--json`` is short."""

    @wraps(command)
    def logging(*args: Any, log_format: str, as_json: bool, **others: Any) -> Any:
        return command(*args, log_format="json" if as_json else log_format, **others)

    short = click.option(
        "--json", "as_json", is_flag=True, callback=json_wanted, help="The same as --log-format json."
    )(logging)
    formats = click.Choice(["text", "json"])
    return click.option(  # type: ignore[return-value]
        "--log-format",
        type=formats,
        default="text",
        help="The format of the log on standard error.",
        **in_environment("--log-format"),
    )(short)


def log_in(log_format: str) -> Log:
    """``log(level, message, **fields)``, one line each. Failures of threads are logged too."""
    log = _json if log_format == "json" else _text
    report_to(lambda name, error: log("error", f"the thread {name} failed and continues: {summary(error)}"))
    return log


def _json(level: str, message: str, **fields: object) -> None:
    document = {"at": rfc3339(now_ms()), "level": level, "message": message, **fields}
    sys.stderr.write(json.dumps(document) + "\n")
    sys.stderr.flush()


def _text(level: str, message: str, **fields: object) -> None:
    details = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
    line = f"{rfc3339(now_ms())} {level} {message} {details}".rstrip()
    sys.stderr.write(shown(line) + "\n")
    sys.stderr.flush()
