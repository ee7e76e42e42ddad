"""How a server may ask for the password of provisioner's connections: by SCRAM, unless its URL allows other ways.

A program that has taken a server's port would otherwise be sent the password, in clear text or as good as that.
"""

from __future__ import annotations

import psycopg

from provisioner.core.connection import AUTHENTICATION, FileLocation, Location
from provisioner.core.errors import StorageFailed
from provisioner.engines.protocol import location as place

_SINCE = 160000  # of libpq


def required(location: Location) -> dict[str, str]:
    """Options for a connection to what is at a location. Raises StorageFailed where libpq is too old to refuse the rest."""
    word, variable = AUTHENTICATION
    if psycopg.pq.version() >= _SINCE:
        return {word: place.variables(location)[variable]}
    if isinstance(location, FileLocation) and place.socket_directory(location):
        return {}
    raise StorageFailed(
        f"libpq {psycopg.pq.version() // 10000} would send a password to any program that listens at {location}",
        "Install libpq 16 or newer: pip install --upgrade 'psycopg[binary]'",
    )
