"""The sockets on which the router listens. The daemon makes them, because Caddy would share the port with any other program of
the same user that asks for that."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from provisioner.core.errors import LockTimeout
from provisioner.hosting.router.options import RouterOptions

_BACKLOG = 4096
_LOOPBACK_6 = "::1"


@contextmanager
def listening(options: RouterOptions) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Those of its port, and those without TLS: one for each address, until the end of the block. Raises LockTimeout if a
    port cannot be had."""
    with ExitStack() as stack:
        found = _listeners(options.addresses, options.port, "--preview-port", stack)
        plain = options.http_port if options.encrypted else 0
        yield found, _listeners(options.addresses, plain, "--preview-http-port", stack) if plain else []


def _listeners(addresses: tuple[str, ...], port: int, option: str, stack: ExitStack) -> list[socket.socket]:
    """As many as there are addresses: a machine without the last one has one of the others twice."""
    found: list[socket.socket] = []
    for address in addresses:
        each = _listener(address, port, option, optional=address == _LOOPBACK_6 and bool(found))
        found.append(found[0] if each is None else stack.enter_context(each))
    return found


def _listener(address: str, port: int, option: str, *, optional: bool) -> socket.socket | None:
    """An `optional` one is None if the machine does not have the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if optional:
            return None
        raise
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        found.bind((address, port))
        found.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        found.close()
        number = getattr(error, "errno", 0)
        if optional and number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = f"Choose another with {option}" if number == errno.EADDRINUSE else f"See --host and {option}"
        raise LockTimeout(f"the router cannot listen on {address}:{port}: {why}", hint) from error
    return found
