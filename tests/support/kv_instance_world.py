"""An app whose branches have Deno KV databases on a real PostgreSQL server, and what programs see of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pg_server import PgServer
from pg_world import environment
from support import daemon, ok, repository

from provisioner.kv import Kv, open_kv
from provisioner.system.home import home_directory

KEY = ("mark",)


def kv_shop(path: Path, pg: PgServer, *branches: str, options: tuple[str, ...] = ("--grace", "0s")) -> Path:
    """A registered repository whose only instance is `keys` on the server."""
    repository(path, *branches)
    ok(path, "instance", "add", "keys", "--engine", "deno-kv", "--url", pg.url())
    ok(path, "app", "add", "--name", "shop", *options)
    ok(path, "assign", "keys", "shop")
    return path


@contextmanager
def serving(command: str = "serve") -> Iterator[None]:
    """The home's server, for as long as this lasts."""
    home = Path(home_directory(os.environ))
    with daemon(home, "provisioner", command, "--port", "0", announced="server"):
        yield


@contextmanager
def opened(repo: Path, branch: str) -> Iterator[Kv]:
    """A branch's database as a program of it has it open."""
    given = environment(repo, branch)
    with open_kv(given["DENO_KV_DEFAULT_PATH"], access_token=given["DENO_KV_ACCESS_TOKEN"]) as kv:
        yield kv


def mark(repo: Path, branch: str, text: str) -> None:
    with opened(repo, branch) as kv:
        kv.set(KEY, text)


def marked(repo: Path, branch: str) -> object:
    """What `mark` has left there; None where nothing was."""
    with opened(repo, branch) as kv:
        return kv.get(KEY).value
