"""The socket that the server listens on, and the HTTP library that takes connections from it.

granian speaks HTTP/1.1 and cleartext HTTP/2 on one port; a real Deno speaks HTTP/2 with prior knowledge only.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from pathlib import Path
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server as Granian

from provisioner.connect.server.options import Options
from provisioner.core.errors import LockTimeout

IDLE_MS: Final = 30_000  # of a connection without a request, and of headers that do not come
BACKLOG: Final = 4096  # connections that wait until they are taken; the system may allow fewer
HEADERS: Final = 65_536  # bytes of a request's headers
STREAMS: Final = 1024  # of a connection: each watch is one, and they must not starve reads


class _Listening(Granian):
    """On an existing socket: no other process can take connections from it, and limits can be enforced."""

    listener: socket.socket

    def _init_shared_socket(self) -> None:
        self._shd = SocketHolder(os.dup(self.listener.fileno()), False, BACKLOG)  # type: ignore[call-arg, assignment]


def http_server(target: Any, options: Options, listener: socket.socket) -> Granian:
    """The HTTP library's server, for an RSGI application."""
    logging.getLogger("_granian").setLevel(logging.ERROR)
    made = _Listening(
        target,
        address=options.host,
        port=options.port,
        interface=Interfaces.RSGI,
        websockets=False,
        backlog=BACKLOG,
        backpressure=options.connections,
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_MS, max_buffer_size=HEADERS),
        http2_settings=HTTP2Settings(
            max_concurrent_streams=STREAMS, keep_alive_interval=20_000, max_headers_size=HEADERS
        ),
        log_enabled=False,
        ssl_cert=Path(options.tls_cert) if options.tls_cert else None,
        ssl_key=Path(options.tls_key) if options.tls_key else None,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    made.listener = listener
    return made


def listening(options: Options) -> socket.socket:
    """A socket that listens on the port, or any free one for 0. Raises Busy where it cannot be had."""
    found = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((options.host, options.port))
        found.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        found.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "Choose another with --port" if getattr(error, "errno", 0) == errno.EADDRINUSE else "See --host"
        raise LockTimeout(f"cannot listen on {options.host}:{options.port}: {why}", hint) from error
    found.setblocking(False)
    return found
