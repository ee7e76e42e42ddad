"""Where the databases of a postgres instance are: its location, and what it says to clients. Light: `exec` imports it.

A location is the URL of a server without what opens it, ``postgresql://host:port?sslmode=verify-full&sslrootcert=/ca.pem``
(several hosts with commas between them), or the directory of an embedded server.
"""

from __future__ import annotations

import os

from provisioner.core.connection import SERVER_OPTIONS, quoted, unquoted

SCHEME = "postgresql://"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DEFAULT_PORT = "5432"
PORT_FILE = "port"
PASSWORD_FILE = "password"  # noqa: S105 - its name
FOR_ROOT = "/var/lib/timeline-provisioner"
"""Where the files of embedded servers are as root, each one's in a directory of its own."""


def is_server(location: str) -> bool:
    """Is it somebody's server, and not one of the home's own?"""
    return location.startswith(SCHEME)


def has_several(location: str) -> bool:
    """Does it name several hosts, so that there may be standbys?"""
    return is_server(location) and "," in location.partition("?")[0]


def location_of(hosts: list[tuple[str, str]], options: dict[str, str]) -> str:
    """The location of a server: hosts with their ports, and options by the words that a URL has for them."""
    where = ",".join(f"[{host}]:{port}" if ":" in host else f"{quoted(host)}:{port}" for host, port in hosts)
    more = "&".join(f"{word}={quoted(options[word])}" for word, _ in SERVER_OPTIONS if options.get(word))
    return f"{SCHEME}{where}{f'?{more}' if more else ''}"


def data_of(directory: str) -> str:
    """Where an embedded server has its files: beside, or as root elsewhere."""
    try:
        with open(os.path.join(directory, "elsewhere")) as file:
            return os.path.join(file.read().strip(), "data")
    except FileNotFoundError:
        return os.path.join(directory, "data")


def is_kept(location: str) -> bool:
    """Is there an embedded server's, running or not?"""
    return not is_server(location) and os.path.exists(os.path.join(location, PASSWORD_FILE))


def listens(directory: str) -> bool:
    """Does somebody accept connections where an embedded server is to listen?"""
    import _socket  # `socket` takes longer to import

    try:
        server = variables(directory)
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            connection.settimeout(2.0)
            connection.connect((server["PGHOST"], int(server["PGPORT"])))
        finally:
            connection.close()
    except (OSError, ValueError):
        return False
    return True


def shown_url(location: str, database: str) -> str:
    """Where a database is, for people; nothing that opens it."""
    if not is_server(location):
        return f"embedded in {location}: {database}"
    where, mark, more = location.partition("?")
    return f"{where}/{database}{mark}{more}"


def without_password(url: str) -> str:
    """What somebody gave as a server's URL, to be shown: of what cannot be one, rather too little is left."""
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


def variables(location: str) -> dict[str, str]:
    """PGHOST, PGPORT and what else a client has to know of a server. Raises OSError for an embedded one never started."""
    if not is_server(location):
        with open(os.path.join(location, PORT_FILE)) as file:
            return {"PGHOST": "127.0.0.1", "PGPORT": file.read().strip()}
    where, _, more = location.removeprefix(SCHEME).partition("?")
    hosts, ports = [], []
    for part in where.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, DEFAULT_PORT
        hosts.append(unquoted(host.strip("[]")))
        ports.append(port)
    found = {"PGHOST": ",".join(hosts), "PGPORT": ",".join(ports)}
    options = dict(option.split("=", 1) for option in more.split("&") if option)
    return found | {name: unquoted(options[word]) for word, name in SERVER_OPTIONS if word in options}
