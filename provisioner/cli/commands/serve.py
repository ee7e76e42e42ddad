"""`provisioner serve` and `provisioner up`: the server in the foreground, alone or with the daemon."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from provisioner.cli.context import made_home
from provisioner.cli.log_format import Log, log_in, log_option
from provisioner.cli.options.config_file import ConfiguredCommand
from provisioner.cli.options.server_options import preview_options, server_options
from provisioner.core.clock import now_ms
from provisioner.core.durations import milliseconds
from provisioner.core.errors import UsageError
from provisioner.core.host_names import is_host_name
from provisioner.dashboard.web import login_codes
from provisioner.environment import env_files
from provisioner.kv.stores.postgres.pool_limits import POOL
from provisioner.registry.home import replica
from provisioner.registry.store import Registry
from provisioner.system.signals import SignalPipe


@click.command(cls=ConfiguredCommand)
@server_options
@click.option(
    "--beside",
    is_flag=True,
    help="Serve beside another server of this home. Apps connect to the first one, and to this one when that ends.",
)
@log_option
def serve(log_format: str, **options: Any) -> None:
    """Serve every database over KV Connect, plus the dashboard.

    Stops on SIGTERM and SIGINT, after requests in progress are answered.

    On a terminal it prints a link that logs in to the dashboard, once; 'provisioner dashboard' creates more. /healthz and
    /readyz report its health, and /metrics has counters for Prometheus.
    """
    stopped = SignalPipe(signal.SIGTERM, signal.SIGINT)
    server = _server(log_in(log_format), options, stopped.tell)
    server.start()
    _greet(server)
    try:
        env_files.refresh_all(server.home)  # apps connect to this server from now on
        stopped.wait()
    finally:
        server.stop()
    server.must_have_lived()


@click.command(cls=ConfiguredCommand)
@server_options
@preview_options
@log_option
def up(log_format: str, **options: Any) -> None:
    """Run 'watch', 'serve', and the apps of timelines.

    Set how an app runs with 'provisioner app run'. The apps' URLs need the extra 'previews' of this package. Ctrl-C and SIGTERM
    end the apps and the router; see --keep-router for restarts.
    """
    from provisioner.daemon.loop import Daemon

    log = log_in(log_format)
    router, most = _router_options(options), options.pop("max_apps")
    keep_router = milliseconds(options.pop("keep_router")) / 1000
    server = _server(log, options, lambda: os.kill(os.getpid(), signal.SIGTERM))
    previews: Any = None
    if router.port and replica.followed(server.home) is None:
        from provisioner.hosting.previews import Previews

        previews = Previews(server.home, router, log, lambda: server.options.url if server.site else "", most)
    daemon = Daemon(
        server.home, log, ending=server.begin_to_stop, changed=previews.look if previews else lambda _: None
    )
    server.start()
    _greet(server)
    try:
        if previews:
            previews.start()
        daemon.run()
    finally:
        if previews:
            previews.stop(keep_router if daemon.replaced else 0.0)
        server.stop()
    server.must_have_lived()


def _router_options(options: dict[str, Any]) -> Any:
    """How the router listens: on the server's address. Raises UsageError."""
    from provisioner.hosting.router.options import Acme, CertificateFiles, LocalAuthority, NoTls, RouterOptions

    port, domain = options.pop("preview_port"), options.pop("domain").lower().strip(".")
    wanted, email, directory = (options.pop(name) for name in ("preview_tls", "acme_email", "acme_directory"))
    roots, http_port = options.pop("acme_roots"), options.pop("preview_http_port")
    certificate, key = options["tls_cert"], options["tls_key"]
    if not is_host_name(domain):
        raise UsageError(f"{domain!r} is not a domain", "Use, for example, preview.example.com")
    if wanted == "acme" and not email:
        raise UsageError("--preview-tls acme requires --acme-email", "Add --acme-email EMAIL")
    if wanted == "files" and not certificate:
        raise UsageError("--preview-tls files requires certificate files", "Add --tls-cert FILE --tls-key FILE")
    tls: Any = NoTls()
    if wanted == "local":
        tls = LocalAuthority()
    elif wanted == "acme":
        tls = Acme(email, directory or "", roots or "")
    elif wanted != "off" and certificate and key:
        others = Acme(email, directory or "", roots or "") if email else None
        tls = CertificateFiles(certificate, key, others)
    if http_port and tls == NoTls():
        raise UsageError("without TLS, the URLs have no other port", "Omit --preview-http-port, or add --preview-tls")
    return RouterOptions(options["host"], port, domain, tls, http_port=http_port)


def _server(log: Log, options: dict[str, Any], died: Callable[[], None]) -> Any:
    from provisioner.connect.server.options import Options
    from provisioner.connect.server.runner import RunningServer

    home = made_home()
    follows = replica.followed(home)
    Registry.open(home, create=True).close()
    renamed = {
        "log_all": options.pop("access_log"),
        "connections": options.pop("max_connections"),
        "per_address": options.pop("max_connections_per_address"),
        "databases": options.pop("max_databases"),
    }
    POOL.most, POOL.each = options.pop("pool_size"), options.pop("pool_per_database")
    dashboard = not options.pop("no_dashboard") and follows is None  # which is for changing things
    site: Any = None
    if dashboard:
        from provisioner.dashboard.app import Dashboard

        site = Dashboard
    return RunningServer(home, Options(**options, **renamed), log, died, site=site)


def _greet(server: Any) -> None:
    """Print a login link on a terminal; never into a log."""
    if server.site is not None and sys.stderr.isatty():
        code = login_codes.make(server.home, now_ms())
        click.echo(f"dashboard: {login_codes.link(server.options.url, code)} (once, within 10 minutes)", err=True)
