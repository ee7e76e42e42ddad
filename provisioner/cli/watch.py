"""`provisioner watch`: the daemon in the foreground."""

from __future__ import annotations

import json
import sys

import click

from provisioner.cli.shared import the_home
from provisioner.clock import now_ms, rfc3339
from provisioner.errors import StorageFailed
from provisioner.naming import shown


@click.command()
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How to log, to stderr.")
def watch(log_format: str) -> None:
    """Watch the refs of every app, act on the inbox, reconcile. Stops cleanly on SIGTERM and SIGINT."""
    from provisioner.daemon import Daemon

    home = the_home()
    try:
        home.create()
    except OSError as error:
        raise StorageFailed(
            f"cannot make {home.path} this user's own: {error.strerror}", "Change its owner, or set PROVISIONER_HOME"
        ) from error
    Daemon(home, _log_json if log_format == "json" else _log_text).run()


def _log_json(level: str, message: str, **fields: object) -> None:
    document = {"at": rfc3339(now_ms()), "level": level, "message": message, **fields}
    sys.stderr.write(json.dumps(document) + "\n")
    sys.stderr.flush()


def _log_text(level: str, message: str, **fields: object) -> None:
    details = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
    line = f"{rfc3339(now_ms())} {level} {message} {details}".rstrip()
    sys.stderr.write(shown(line) + "\n")
    sys.stderr.flush()
