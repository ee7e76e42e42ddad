"""A server that does not run, and is not started only to look at it."""

from __future__ import annotations

from provisioner.core.errors import StorageFailed


class ServerStopped(StorageFailed):
    """A server of the home's own does not run, and is not to be started for this. It starts when it is needed."""
