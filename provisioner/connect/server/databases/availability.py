"""Whether a database can be used now, by what the registry says of it."""

from __future__ import annotations

from typing import Final, assert_never

from provisioner.connect.protocol.http_errors import CONFLICT, GONE, NOT_FOUND, UNAVAILABLE, Refused
from provisioner.core.model import Archived, Connected, Intent, Provisioning, Purged, Unusable
from provisioner.registry.locations import DatabaseLocation

_ENGINE: Final = "deno-kv"


def refusal(place: DatabaseLocation | None) -> Refused | None:
    """Why programs cannot use this database now; None if they can."""
    if place is None or place.engine != _ENGINE:
        return Refused(NOT_FOUND, "there is no such database")
    name = place.name
    match place.state:
        case Purged() | Archived(intent=Intent.PURGE):
            return Refused(GONE, f"database {name} was permanently deleted")
        case (
            Archived()
            | Provisioning(intent=Intent.ARCHIVE)
            | Connected(intent=Intent.ARCHIVE)
            | Unusable(intent=Intent.ARCHIVE)
        ):
            return Refused(GONE, f"database {name} is archived. Recover it with: provisioner database recover {name}")
        case Unusable(intent=None | Intent.PROVISION) if place.require_quorum:
            # The instance does not keep its promise now: it is tried again, and programs, watches above all, are to wait.
            return Refused(
                UNAVAILABLE,
                f"database {name} failed, which is temporary if too few nodes store its writes."
                f" See: provisioner database show {name}",
            )
        case Unusable():
            return Refused(CONFLICT, f"database {name} failed. See: provisioner database show {name}")
        case Provisioning() | Connected(intent=Intent.PROVISION | Intent.REPLACE):
            return Refused(UNAVAILABLE, f"database {name} is being created")
        case Connected() if place.switching:
            return Refused(UNAVAILABLE, f"database {name} is being moved")
        case Connected():
            return None
        case _:
            assert_never(place.state)
