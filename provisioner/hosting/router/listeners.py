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
def listening(options: RouterOptions) -> Iterator[list[socket.socket]]:
    """One for each address, until the end of the block. Raises LockTimeout if the port cannot be had."""
    with ExitStack() as stack:
        found: list[socket.socket] = []
        for address in options.addresses:
            each = _listener(address, options.port, optional=address == _LOOPBACK_6 and bool(found))
            if each is not None:
                found.append(stack.enter_context(each))
        yield found


def _listener(address: str, port: int, *, optional: bool) -> socket.socket | None:
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
        hint = "Choose another with --preview-port" if number == errno.EADDRINUSE else "See --preview-host"
        raise LockTimeout(f"the router cannot listen on {address}:{port}: {why}", hint) from error
    return found
