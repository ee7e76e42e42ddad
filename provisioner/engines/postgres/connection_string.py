"""What a user says of a server, as a location and an administrator's URL."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from provisioner.core.connection import (
    AUTHENTICATION,
    SERVER_OPTIONS,
    FileLocation,
    Location,
    PostgresEndpoint,
    ServerLocation,
)
from provisioner.core.errors import StorageFailed, UsageError
from provisioner.core.model import Instance
from provisioner.engines.postgres.session import looking, masked
from provisioner.engines.protocol import location as place
from provisioner.engines.protocol.engine import StorageTarget

_EXAMPLE = "It looks like postgresql://user:password@host:5432/postgres"


def locate(where: StorageTarget, directory: str, known: Instance | None) -> tuple[Location, str]:
    """See `Engine.locate`: a server's URL, or the directory of an embedded one."""
    url = where.url if where.url is not None else known.url if known is not None else ""
    if where.directory is not None and where.url is not None:
        raise UsageError("--directory is for an embedded server, --url for another server", "Choose one")
    if where.directory is None and url:
        return _parse(url, where)
    if where.password is not None:
        raise UsageError("a password is for a linked server", "Add --url URL")
    if where.ca_cert is not None or where.sslmode is not None:
        raise UsageError("--ca-cert and --sslmode are for a linked server", "Add --url URL")
    if where.require_quorum:
        raise UsageError("an embedded server has no standbys: --require-quorum is for linked servers", "Add --url URL")
    if known is not None and known.url:
        raise UsageError("this instance is on a linked server", "Use --url URL")
    return FileLocation(os.path.realpath(where.directory or (known.location if known else directory))), ""


def same_place(one: Instance, other: Instance) -> bool:
    """Whether both lead to one server. Each cluster has its own number, which its standbys have too."""
    if one.location == other.location:
        return True
    try:
        return _identity(one) == _identity(other)
    except StorageFailed:
        return False  # no program can write to a server that no longer answers


def _identity(instance: Instance) -> object:
    with looking(instance) as session:
        row = session.execute("select system_identifier from pg_control_system()").fetchone()
        return row[0] if row else None


def _parse(text: str, where: StorageTarget) -> tuple[ServerLocation, str]:
    """Location and administrator's URL of a URL, or of libpq's ``host=… user=…``. Raises UsageError."""
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise UsageError(
            f"this is not a URL of a PostgreSQL server: {_without_secret(error, text)}", _EXAMPLE
        ) from error
    options = {word: given.get(word, "") for word, _ in (*SERVER_OPTIONS, AUTHENTICATION)}
    options["sslrootcert"] = os.path.abspath(where.ca_cert) if where.ca_cert else options["sslrootcert"]
    options["sslmode"] = where.sslmode or options["sslmode"] or ("verify-full" if options["sslrootcert"] else "")
    if options["sslrootcert"] not in ("", "system") and not os.path.isfile(options["sslrootcert"]):
        raise UsageError(f"no file {options['sslrootcert']}", "Use the certificate of the server's authority")
    hosts = given.get("host", "").split(",")
    ports = given.get("port", place.DEFAULT_PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if not all(hosts) or len(ports) != len(hosts):
        raise UsageError("the URL of a server needs a host", _EXAMPLE)
    if "user" not in given:
        raise UsageError("the URL of a server needs an administrator's name", _EXAMPLE)
    secret = given.get("password", "") if where.password is None else where.password
    location = place.location_of(list(zip(hosts, ports, strict=True)), options)
    reached = PostgresEndpoint(place.variables(location), given.get("dbname", "postgres"), given["user"], secret)
    return location, reached.url()


def _without_secret(error: psycopg.Error, text: str) -> str:
    try:
        secret = urlsplit(text).password
    except ValueError:
        secret = None
    said = " ".join(str(error).split())
    return masked(said, secret) if secret else said.partition(":")[0]
