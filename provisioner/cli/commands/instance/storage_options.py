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
    """``--directory``, ``--url`` and its parts, ``--require-quorum``: what they say comes as the argument `where`."""
    options: dict[str, dict[str, Any]] = {
        "--directory": {"metavar": "PATH", "help": directory},
        "--url": {
            "metavar": "URL",
            "help": "postgresql://user:password@host:port/database of an administrator; - asks.",
        },
        "--host": {"metavar": "HOST", "help": "Instead of --url; with --user, and a password that is asked for."},
        "--port": {"metavar": "PORT", "type": int, "help": "Default: 5432."},
        "--user": {"metavar": "USER", "help": "Who may create databases and roles there. Default: postgres."},
        "--ca-cert": {"metavar": "FILE", "help": "The certificate that the server's has to be signed by."},
        "--sslmode": {"type": click.Choice(SSL_MODES), "help": "As libpq's. Default: verify-full with --ca-cert."},
        "--require-quorum": {
            "metavar": "N",
            "type": int,
            "help": "Work only while the server keeps each write on N nodes before it acknowledges it; 0: do not ask.",
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
                raise UsageError("a quorum is of two nodes or more", "Of three nodes it is --require-quorum 2")
            where = StorageTarget(directory, _url(url, host, port, user), ca_cert, sslmode, require_quorum)
            command(*arguments, where=where, **others)

        return with_options(called, options)

    return decorate


def _url(url: str | None, host: str | None, port: int | None, user: str | None) -> str | None:
    if url is not None and (host, port, user) != (None, None, None):
        raise UsageError("--url says all of it", "Leave --host, --port and --user away")
    if url == "-":
        return standard_input.secret("a URL", "Pipe it in, or use --url URL")
    if url is not None or (host, port, user) == (None, None, None):
        return url
    if host is None:
        raise UsageError("which server?", "Say --host HOST, or --url URL")
    secret = quoted(standard_input.secret("a password", "Pipe it in, or use --url URL"))
    named = f"[{host}]" if ":" in host else quoted(host)
    return f"postgresql://{quoted(user or 'postgres')}:{secret}@{named}:{port or 5432}/postgres"
