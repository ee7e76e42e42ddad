"""Which form of the registry's tables this code knows. Light: `exec` imports it."""

from __future__ import annotations

from provisioner.core.errors import StorageFailed

VERSION = 26
"""The registry's ``pragma user_version``; 0 is one without tables."""


class TooNew(StorageFailed):
    """The registry was written by a newer provisioner: what is in it may mean something else by now."""

    def __init__(self, registry: str, found: int) -> None:
        super().__init__(
            f"the registry {registry} was written by a newer provisioner (version {found}; this one reads {VERSION})",
            "Upgrade with: pip install --upgrade timeline-provisioner",
        )
