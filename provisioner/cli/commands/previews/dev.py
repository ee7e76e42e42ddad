"""`provisioner dev`: a dev server with the databases of its worktree's branch, a port, and a URL."""

from __future__ import annotations

import os
import socket
import sys
import time

import click

from provisioner.cli.commands.previews.urls import host_of, router_answers
from provisioner.cli.failure import line
from provisioner.cli.quick.exec import cannot_run, connected, program
from provisioner.cli.selectors import ALL, selector_options
from provisioner.core.connection import TimelineConnection
from provisioner.core.errors import NotResolved, ProvisionerError, UsageError
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors, here
from provisioner.git.worktree import Checkout, current_branch, find_checkout
from provisioner.hosting import foreground
from provisioner.hosting.dev_servers import DevServer, DevServers
from provisioner.hosting.ports import answers
from provisioner.hosting.routes import LOOPBACK
from provisioner.system.home import Home, home_directory
from provisioner.system.router_address import address

PORT_PLACE = "{port}"
SILENT_SECONDS = 10.0  # after which a command that does not listen where it should is worth a word
SOON, LATER = 0.1, 1.0


@click.command(name="dev", context_settings={"ignore_unknown_options": True})
@selector_options(*ALL)
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Use this port. Default: a free one.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def dev(selectors: Selectors, port: int | None, command: tuple[str, ...]) -> None:
    """Run a dev server with its databases, a port, and a URL.

    CMD gets the variables of 'provisioner exec', and PORT, HOST, DENO_SERVE_ADDRESS, and PROVISIONER_URL. For a server that
    has an option for its port instead, write {port} there: provisioner dev -- npx vite --port {port}

    The URL http://BRANCH.APP.localhost:4580 stays the same; it needs 'provisioner up'. Each worktree has its own.
    """
    if command[0].startswith("-"):
        raise UsageError(f"'provisioner dev' has no option {command[0]}", "See: provisioner dev --help")
    sys.exit(foreground.end_as(_run(selectors, port, list(command))))


def _run(selectors: Selectors, port: int | None, command: list[str]) -> int:
    try:
        connection, environ = connected(selectors)
    except ProvisionerError as error:
        error.exit_code = NotResolved.exit_code if error.exit_code == 1 else error.exit_code
        raise
    home = Home(home_directory(os.environ))
    host = host_of(connection, address(home).domain)
    place = os.fsdecode(here())
    servers = DevServers(home)
    with servers.registered(connection.app_id, connection.timeline, host, place, port) as server:
        near = f"http://{LOOPBACK}:{server.port}"
        stable = address(home).url(host)
        environ |= {
            "PORT": str(server.port),
            "HOST": LOOPBACK,
            "DENO_SERVE_ADDRESS": f"tcp:{LOOPBACK}:{server.port}",
            "PROVISIONER_URL": stable if server.routed and router_answers(home) else near,
        }
        words = [word.replace(PORT_PLACE, str(server.port)) for word in command]
        look = _Look(home, server, connection, selectors, near, stable)
        try:
            return foreground.run(program(words[0], environ), words, environ, look)
        except OSError as error:
            raise cannot_run(words[0], error) from error


class _Look:
    """What is looked at while the command runs: whether it listens, and whether the worktree is still on its branch."""

    def __init__(
        self,
        home: Home,
        server: DevServer,
        connection: TimelineConnection,
        selectors: Selectors,
        near: str,
        stable: str,
    ) -> None:
        self._home, self._server, self._connection = home, server, connection
        self._near, self._stable = near, stable
        self._checkout = find_checkout(here()) if selectors.of_the_checkout else None
        self._branch = self._seen = _branch_of(self._checkout)
        self._silent_until = time.monotonic() + SILENT_SECONDS
        self._announced = False

    def __call__(self) -> float:
        self._look_at_branch()
        if self._announced:
            return LATER
        if answers(self._server.port):
            self._announced = True
            self._announce()
            return LATER
        if time.monotonic() > self._silent_until:
            self._silent_until = float("inf")
            self._explain_silence()
        return SOON

    def _announce(self) -> None:
        names = " ".join(database.database_name for database in self._connection.databases)
        routed = self._server.routed and router_answers(self._home)
        _say(f"{self._stable if routed else self._near}  {names}")
        if self._server.routed and not routed:
            line(f"no router is running. For the URL {self._stable}, run: provisioner up")
        elif routed and not _resolves(self._server.host):
            port = address(self._home).port
            line(
                f"{self._server.host} does not resolve on this machine. Browsers open it all the same. For other programs:"
                f" curl --resolve {self._server.host}:{port}:{LOOPBACK} {self._stable}, or send the header Host:"
                f" {self._server.host} to {LOOPBACK}:{port}"
            )

    def _explain_silence(self) -> None:
        port = self._server.port
        if answers(port, "::1"):
            line(
                f"the command listens on [::1]:{port} only, which the URL does not reach. Have it listen on {LOOPBACK}"
            )
        else:
            line(
                f"nothing listens on port {port} yet. If the command does not read PORT, use its option, for example:"
                f" provisioner dev -- npx vite --port {PORT_PLACE}"
            )

    def _look_at_branch(self) -> None:
        now = _branch_of(self._checkout)
        if now == self._seen:
            return
        self._seen = now
        if now != self._branch:
            what = f"on branch {shown(now)}" if now is not None else "on no branch"
            line(
                f"the worktree is {what} now. This server still has the databases of {shown(self._connection.timeline)}:"
                " restart it"
            )


def _branch_of(checkout: Checkout | None) -> bytes | None:
    try:
        return None if checkout is None else current_branch(checkout, os.environ).name
    except NotResolved:
        return None


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _say(text: str) -> None:
    """Print a message on standard error: standard output is the command's."""
    click.echo(shown(text), err=True)
