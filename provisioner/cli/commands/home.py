"""`provisioner home`: this home, and homes that follow another one to serve it on several machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import click

from provisioner.cli.change import said
from provisioner.cli.context import (
    any_home,
    confirm,
    json_option,
    looks,
    made_home,
    print_json,
    say,
    the_home,
    yes_option,
)
from provisioner.cli.options.duration import DURATION
from provisioner.cli.output_file import written
from provisioner.cli.terminal import carry_out
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.durations import milliseconds
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.naming import shown
from provisioner.operations.documents import Document
from provisioner.operations.home.adoption import copied, moved
from provisioner.operations.proposal import Proposal
from provisioner.registry.home import replica
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.home_state import HomeState, explained, standing

_PATIENCE_SECONDS = 60.0


@click.group()
def home() -> None:
    """Manage this home and the homes that follow it."""


@home.command()
@json_option
@looks
def show(as_json: bool) -> None:
    """Show where this home is and which home it follows."""
    where = any_home()
    if as_json:
        print_json(home_document(where))
        return
    found = replica.followed(where)
    received = rfc3339(found.received_at) if found and found.received_at else None
    state = standing(where) if os.path.exists(where.registry) else None
    since = f"received at {received}" if received else "nothing received yet"
    click.echo(shown(f"{where.path} follows: {' '.join(found.command)} ({since})" if found else where.path))
    if state is not None and state.state is not HomeState.HERE:
        click.echo(shown(explained(where, state)))


def home_document(where: Home) -> Document:
    """A home as 'home show' has it."""
    found = replica.followed(where)
    received = rfc3339(found.received_at) if found and found.received_at else None
    state = standing(where) if os.path.exists(where.registry) else None
    return {
        "path": where.path,
        "follows": {"command": list(found.command), "received_at": received} if found else None,
        "id": state.identity.id if state and state.identity else None,
        "state": state and str(state.state),
    }


@home.command()
@click.option("--moved", "as_moved", is_flag=True, help="It was moved here or restored, and replaces the original.")
@click.option("--copied", "as_copy", is_flag=True, help="It is a copy, and the original stays in use.")
@json_option
def adopt(as_moved: bool, as_copy: bool, as_json: bool) -> None:
    """Declare that this home was moved or copied.

    A copy becomes its own home, with its own id, key, ports, and embedded servers. Tokens and passwords of the original
    do not open it. Its apps have no repository until 'provisioner app set APP --repository PATH'. Databases outside of
    the home stay with the original.
    """
    if as_moved == as_copy:
        raise click.UsageError("choose one: --moved or --copied")
    where = any_home()
    carry_out(
        Proposal(lambda _: moved(where) if as_moved else copied(where)),
        document=(lambda lines: {**home_document(where), **said(lines)}) if as_json else None,
    )


@home.command()
@click.option("--output", "-o", metavar="FILE", help="Write to a file. Default: standard output.")
@json_option
def copy(output: str | None, as_json: bool) -> None:
    """Export this home's registry and key for a follower.

    Anyone with the copy can open every database. Write it to a pipe (ssh, kubectl exec) or to a file that only you can read.
    """
    if output in (None, "-") and sys.stdout.isatty():
        raise ProvisionerError("a copy of a home cannot be shown on a terminal", "Pipe it, or add --output FILE")
    if as_json and output in (None, "-"):
        raise UsageError("--json requires --output", "Add --output FILE")
    where = the_home()
    with Registry.open(where), written(output) as file:
        replica.copy(where, file)  # type: ignore[arg-type]
    if as_json:
        print_json({**home_document(where), "file": output, "size": os.path.getsize(str(output))})


@home.command(context_settings={"ignore_unknown_options": True})
@click.option("--every", type=DURATION, default="5s", show_default=True, help="How often to ask for a copy.")
@click.option("--once", is_flag=True, help="Receive one copy and end, with exit code 1 if that fails.")
@click.argument("command", nargs=-1, required=True)
@json_option
def follow(every: str, once: bool, command: tuple[str, ...], as_json: bool) -> None:
    """Follow another home by running COMMAND for copies.

    For example: provisioner home follow -- ssh first provisioner home copy
    A home that follows is read-only; 'provisioner serve' there serves the databases of the other home.
    """
    pause = milliseconds(every) / 1000
    where = made_home()
    with replica.following_alone(where):
        failed = ""
        while True:
            try:
                if _received(where, command):
                    at = rfc3339(now_ms())
                    click.echo(json.dumps({"received_at": at}) if as_json else f"received at {at}")
                failed = ""
            except ProvisionerError as error:
                if once:
                    raise
                if str(error) != failed:
                    click.echo(shown(f"Copy not received: {error}"), err=True)
                failed = str(error)
            if once:
                return
            time.sleep(pause)


@home.command()
@yes_option
@json_option
def promote(yes: bool, as_json: bool) -> None:
    """Make this home independent once its source is lost."""
    where = the_home()
    found = replica.followed(where)
    if found is not None:
        since = rfc3339(found.received_at) if found.received_at else "never"
        text = f"Make this home independent, with the copy from {since}? Don't use the other home again."
        confirm(text, yes)
    replica.promote(where)
    with Registry.open(where) as registry:
        registry.record(now_ms(), "home.promote", registry.who)
    say(
        f"{where.path} is independent. Start 'provisioner up' here, and never use the other home again",
        home_document(where) if as_json else None,
    )


def _received(where: Home, command: tuple[str, ...]) -> bool:
    """Ask for a copy and store it. Returns whether it was new. Raises ProvisionerError."""
    with tempfile.TemporaryFile(dir=where.path) as file:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except OSError as error:
            raise ProvisionerError(f"{command[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise ProvisionerError(f"{command[0]} took longer than {_PATIENCE_SECONDS:g} s and was ended") from error
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
            raise ProvisionerError(f"{command[0]} ended with {done.returncode}: {said}")
        file.seek(0)
        return replica.receive(where, file, command, now_ms())
