"""``--scrub``, ``--no-scrub`` and ``--scrub-timeout``: the command that removes sensitive data from copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from provisioner.cli.context import with_options
from provisioner.cli.options.duration import DURATION
from provisioner.core.durations import limit
from provisioner.core.errors import UsageError
from provisioner.reconcile.changes.scrub import parse

_Command = TypeVar("_Command", bound=Callable[..., Any])


def scrub_options(command: _Command) -> _Command:
    """The options, handed on as `scrub` (None: unchanged; empty: none) and `limit_ms` (None: unchanged)."""

    @wraps(command)
    def with_scrub(*args: Any, scrub: str | None, no_scrub: bool, scrub_timeout: str | None, **others: Any) -> Any:
        if scrub is not None and no_scrub:
            raise UsageError("--scrub and --no-scrub cannot be used together", "Choose one")
        chosen = "" if no_scrub else None if scrub is None else parse(scrub)
        return command(*args, scrub=chosen, limit_ms=limit(scrub_timeout) if scrub_timeout else None, **others)

    return with_options(with_scrub, _OPTIONS)  # type: ignore[return-value]


_OPTIONS: dict[str, dict[str, Any]] = {
    "--scrub": {
        "metavar": "CMD|FILE.sql|FILE.py",
        "help": "Run on a copy before anyone can connect. If it fails, no one can.",
    },
    "--no-scrub": {"is_flag": True, "help": "Connect copies as they are."},
    "--scrub-timeout": {"type": DURATION, "help": "Time limit. Default: 10min."},
}
