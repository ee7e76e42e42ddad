"""The options of `serve` and `up`, which can also be in the environment or in `config.toml`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from provisioner.cli.context import with_options
from provisioner.cli.options.duration import DURATION
from provisioner.core.host_names import DOMAIN, PORT
from provisioner.kv.stores.postgres.pool_limits import POOL

_Command = TypeVar("_Command", bound=Callable[..., Any])

SERVER_OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {"default": "127.0.0.1", "metavar": "HOST", "show_default": True, "help": "The address to listen on."},
    "--port": {
        "default": 4512,
        "show_default": True,
        "type": click.IntRange(0, 65535),
        "metavar": "PORT",
        "help": "The port; 0: any free port.",
    },
    "--tls-cert": {"metavar": "FILE", "help": "Use TLS with this certificate (PEM, with its chain)."},
    "--tls-key": {"metavar": "FILE", "help": "Its key (PEM, PKCS#8)."},
    "--insecure-bind": {"is_flag": True, "help": "Accept connections from other machines without TLS."},
    "--public-url": {"metavar": "URL", "help": "URL that clients connect to, if the server is behind a proxy."},
    "--access-log": {"is_flag": True, "help": "Log every request, not only refused ones."},
    "--max-connections": {
        "default": 4096,
        "show_default": True,
        "type": click.IntRange(16),
        "metavar": "N",
        "help": "The most connections at the same time.",
    },
    "--max-connections-per-address": {
        "type": click.IntRange(8),
        "metavar": "N",
        "help": "The most connections from one address. Default: three quarters of all.",
    },
    "--max-databases": {
        "type": click.IntRange(16),
        "metavar": "N",
        "help": "The most open databases. Default: 4096, or what the limit on open files allows.",
    },
    "--pool-size": {
        "default": POOL.most,
        "show_default": True,
        "type": click.IntRange(4),
        "metavar": "N",
        "help": "The most connections to each PostgreSQL server that stores Deno KV databases.",
    },
    "--pool-per-database": {
        "default": POOL.each,
        "show_default": True,
        "type": click.IntRange(1),
        "metavar": "N",
        "help": "The most connections to one database.",
    },
    "--no-dashboard": {"is_flag": True, "help": "Serve no web pages, only KV Connect."},
}


PREVIEW_OPTIONS: dict[str, dict[str, Any]] = {
    "--preview-port": {
        "default": PORT,
        "show_default": True,
        "type": click.IntRange(0, 65535),
        "metavar": "PORT",
        "help": "The port of the apps' URLs; 0: run no apps.",
    },
    "--domain": {
        "default": DOMAIN,
        "metavar": "DOMAIN",
        "show_default": True,
        "help": "The domain of the apps' URLs: BRANCH.APP.DOMAIN.",
    },
    "--max-apps": {
        "default": 20,
        "show_default": True,
        "type": click.IntRange(1),
        "metavar": "N",
        "help": "The most apps that run at a time. The least recently used one sleeps when another must start.",
    },
    "--preview-tls": {
        "type": click.Choice(["off", "files", "local", "acme"]),
        "help": "Certificates of the apps' URLs: those of --tls-cert, of an authority in this home, or of an ACME authority."
        " Default: those of --tls-cert, if it is given.",
    },
    "--keep-router": {
        "type": DURATION,
        "default": "0s",
        "show_default": True,
        "help": "After SIGTERM, let the router run on for this long, for the 'provisioner up' that follows.",
    },
    "--preview-http-port": {
        "default": 0,
        "type": click.IntRange(0, 65535),
        "metavar": "PORT",
        "help": "With TLS, also listen on this port without TLS, to redirect requests and answer ACME's HTTP-01 challenges.",
    },
    "--acme-email": {
        "metavar": "EMAIL",
        "help": "Email address for the ACME authority. With --tls-cert, the authority certifies hosts that the files don't name.",
    },
    "--acme-directory": {"metavar": "URL", "help": "Use this ACME authority instead of Let's Encrypt."},
    "--acme-roots": {
        "metavar": "FILE",
        "help": "Certificates that verify that authority's server (PEM). Default: the system's.",
    },
}


_VARIABLES = ("--host", "--port", "--tls-cert", "--tls-key", "--public-url", "--preview-port", "--domain")
"""The options that can be in the environment."""


def server_options(command: _Command) -> _Command:
    return with_options(command, _in_environment(SERVER_OPTIONS))


def preview_options(command: _Command) -> _Command:
    return with_options(command, _in_environment(PREVIEW_OPTIONS))


def _in_environment(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**how, **(in_environment(name) if name in _VARIABLES else {})} for name, how in options.items()}


def in_environment(option: str) -> dict[str, Any]:
    """For click: the option's environment variable, ``--tls-cert`` in PROVISIONER_TLS_CERT, which its help names."""
    return {"envvar": f"PROVISIONER_{option.strip('-').replace('-', '_').upper()}", "show_envvar": True}
