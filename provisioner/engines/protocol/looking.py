"""Looking at instances without starting anything: for commands that promise to change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from provisioner.core.errors import StorageFailed

_only = ContextVar("only_looking", default=False)


class ServerStopped(StorageFailed):
    """A server of the home's own does not run, and is not to be started for this. It starts when it is needed."""


@contextmanager
def only_looking() -> Iterator[None]:
    """In the block no server is started."""
    token = _only.set(True)
    try:
        yield
    finally:
        _only.reset(token)


def may_start() -> bool:
    return not _only.get()
