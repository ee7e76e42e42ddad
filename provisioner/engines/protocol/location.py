"""The location of a postgres instance, and its connection settings for clients. Light: `exec` imports it.

A location is the URL of a server without what opens it, ``postgresql://host:port?sslmode=verify-full&sslrootcert=/ca.pem``
(several hosts with commas between them), or the directory of an embedded server.
"""

from __future__ import annotations

import os

from provisioner.core.connection import (
    AUTHENTICATION,
    SERVER_OPTIONS,
    FileLocation,
    Location,
    ServerLocation,
    quoted,
    unquoted,
)

SCHEME = "postgresql://"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DEFAULT_PORT = "5432"
SCRAM = "scram-sha-256"  # in which a server shows that it knows the password, and does not learn it
PORT_FILE = "port"
PASSWORD_FILE = "password"  # noqa: S105 - its name
_LONGEST_SOCKET = 80  # bytes of its directory's path; the system takes 108 for all of it
FOR_ROOT = "/var/lib/timeline-provisioner"
"""The files of embedded servers that root runs, each in its own directory."""


def has_several(location: Location) -> bool:
    """Does it name several hosts, so that there may be standbys?"""
    return isinstance(location, ServerLocation) and "," in location.partition("?")[0]


def location_of(hosts: list[tuple[str, str]], options: dict[str, str]) -> ServerLocation:
    """The location of a server: hosts with their ports, and options by the words that a URL has for them."""
    where = ",".join(f"[{host}]:{port}" if ":" in host else f"{quoted(host)}:{port}" for host, port in hosts)
    more = "&".join(f"{word}={quoted(options[word])}" for word, _ in _OPTIONS if options.get(word))
    return ServerLocation(f"{SCHEME}{where}{f'?{more}' if more else ''}")


def data_of(directory: str) -> str:
    """The directory of an embedded server's files: beside, or as root elsewhere."""
    try:
        with open(os.path.join(directory, "elsewhere")) as file:
            return os.path.join(file.read().strip(), "data")
    except FileNotFoundError:
        return os.path.join(directory, "data")


def is_kept(location: Location) -> bool:
    """Is there an embedded server's, running or not?"""
    return isinstance(location, FileLocation) and os.path.exists(os.path.join(location, PASSWORD_FILE))


def socket_directory(directory: str) -> str:
    """The directory of an embedded server's socket, which no other user can reach or replace; empty if the path is too long."""
    beside = os.path.dirname(data_of(directory))
    return beside if len(os.fsencode(beside)) < _LONGEST_SOCKET and "," not in beside else ""


def listens(directory: str) -> bool:
    """Does an embedded server accept connections? While it runs, its port is its own; one that has stopped may have lost it."""
    import _socket  # `socket` takes longer to import

    try:
        server = variables(FileLocation(directory))
        private = socket_directory(directory)
        if not private and not _is_owners(int(server["PGPORT"]), data_of(directory)):
            return False
        connection = _socket.socket(_socket.AF_UNIX if private else _socket.AF_INET, _socket.SOCK_STREAM)
        try:
            connection.settimeout(2.0)
            number = server["PGPORT"]
            connection.connect(f"{private}/.s.PGSQL.{number}" if private else (server["PGHOST"], int(number)))
        finally:
            connection.close()
    except (OSError, ValueError):
        return False
    return True


def _is_owners(port: int, data: str) -> bool:
    """Whether the owner of a server's files listens on the port, and no other user. True if the system does not show it."""
    owner = str(os.stat(data).st_uid)
    try:
        with open("/proc/net/tcp") as file:
            lines = [line.split() for line in file]
    except OSError:
        return True
    listening = [line for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")]
    return bool(listening) and all(line[7] == owner for line in listening)


def port(directory: str) -> str:
    """The loopback port of an embedded server; empty if it has never been started."""
    try:
        with open(os.path.join(directory, PORT_FILE)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def shown_url(location: Location, database: str) -> str | None:
    """The URL of a database, without credentials. None for an embedded server that was never started."""
    if isinstance(location, FileLocation):
        number = port(location)
        return f"{SCHEME}127.0.0.1:{number}/{database}" if number else None
    where, mark, more = location.partition("?")
    return f"{where}/{database}{mark}{more}"


def without_password(url: str) -> str:
    """A server's URL as it was typed, to be shown: of an invalid one, rather too little is shown."""
    scheme = next((word for word in (SCHEME, "postgres://") if url.startswith(word)), "")
    rest = url.removeprefix(scheme)
    who, at, where = rest.rpartition("@")
    where = where if "password" not in where.lower() else where.partition("?")[0]
    if "password" in where.lower() or (not at and not _is_host(where)):
        return ""
    return f"{scheme}{who.partition(':')[0]}{at}{where}"


def _is_host(where: str) -> bool:
    """Is this a host with a port, and not a user with a password?"""
    port = where.partition("/")[0].partition("?")[0].rpartition(":")[2]
    return ":" not in where or port.isdigit() or port.endswith("]")


def variables(location: Location) -> dict[str, str]:
    """PGHOST, PGPORT and what else a client has to know of a server. Raises OSError for an embedded one never started."""
    if isinstance(location, FileLocation):
        with open(os.path.join(location, PORT_FILE)) as file:
            return {"PGHOST": "127.0.0.1", "PGPORT": file.read().strip(), AUTHENTICATION[1]: SCRAM}
    where, _, more = location.removeprefix(SCHEME).partition("?")
    hosts, ports = [], []
    for part in where.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, DEFAULT_PORT
        hosts.append(unquoted(host.strip("[]")))
        ports.append(port)
    found = {"PGHOST": ",".join(hosts), "PGPORT": ",".join(ports)}
    options = {AUTHENTICATION[0]: SCRAM, **dict(option.split("=", 1) for option in more.split("&") if option)}
    return found | {name: unquoted(options[word]) for word, name in _OPTIONS if word in options}


_OPTIONS = (*SERVER_OPTIONS, AUTHENTICATION)
