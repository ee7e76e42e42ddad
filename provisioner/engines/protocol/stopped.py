"""Servers that cannot be asked: one that does not run, and is not started only to look at it, and one that knows nothing."""

from __future__ import annotations

from provisioner.core.errors import StorageFailed


class ServerStopped(StorageFailed):
    """A server of the home's own does not run, and is not to be started for this. It starts when it is needed."""


class NothingStored(StorageFailed):
    """A server answers and has nothing of the instance: it is the wrong one, or was wiped. A person has to say which."""
