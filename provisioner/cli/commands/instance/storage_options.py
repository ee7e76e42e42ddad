"""The options that say where an instance stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from provisioner.cli import standard_input
from provisioner.cli.context import with_options
from provisioner.core.connection import quoted
from provisioner.core.errors import UsageError
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.engines.protocol.location import SSL_MODES


def where_options(directory: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``--directory``, ``--url`` and its parts, ``--require-quorum``, handed on as the argument `where`."""
    options: dict[str, dict[str, Any]] = {
        "--directory": {"metavar": "PATH", "help": directory},
        "--url": {
            "metavar": "URL",
            "help": "An administrator's postgresql://user:password@host:port/database; -: ask for it.",
        },
        "--host": {"metavar": "HOST", "help": "Instead of --url, with --user. Asks for the password."},
        "--port": {"metavar": "PORT", "type": int, "help": "Default: 5432."},
        "--user": {"metavar": "USER", "help": "A role that may create databases and roles. Default: postgres."},
        "--ca-cert": {"metavar": "FILE", "help": "The authority that must have signed the server's certificate."},
        "--sslmode": {"type": click.Choice(SSL_MODES), "help": "libpq's sslmode. Default: verify-full with --ca-cert."},
        "--require-quorum": {
            "metavar": "N",
            "type": int,
            "help": "Work only if N nodes store a write before the server acknowledges it; 0: off.",
        },
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(
            *arguments: object,
            directory: str | None,
            url: str | None,
            host: str | None,
            port: int | None,
            user: str | None,
            ca_cert: str | None,
            sslmode: str | None,
            require_quorum: int | None,
            **others: object,
        ) -> None:
            if require_quorum is not None and (require_quorum < 0 or require_quorum == 1):
                raise UsageError("a quorum needs 2 or more nodes", "For 3 nodes, use --require-quorum 2")
            where = StorageTarget(directory, _url(url, host, port, user), ca_cert, sslmode, require_quorum)
            command(*arguments, where=where, **others)

        return with_options(called, options)

    return decorate


def _url(url: str | None, host: str | None, port: int | None, user: str | None) -> str | None:
    if url is not None and (host, port, user) != (None, None, None):
        raise UsageError("--url cannot be used with --host, --port, or --user", "Omit those, or omit --url")
    if url == "-":
        return standard_input.secret("a URL", "Pipe it in, or use --url URL")
    if url is not None or (host, port, user) == (None, None, None):
        return url
    if host is None:
        raise UsageError("no server was given", "Add --host HOST or --url URL")
    secret = quoted(standard_input.secret("a password", "Pipe it in, or use --url URL"))
    named = f"[{host}]" if ":" in host else quoted(host)
    return f"postgresql://{quoted(user or 'postgres')}:{secret}@{named}:{port or 5432}/postgres"
