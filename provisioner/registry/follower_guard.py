"""Whether things may be changed in a home: only where it follows no other, see replica.py."""

from __future__ import annotations

import os

from provisioner.core.errors import ProvisionerError
from provisioner.system.home import Home


def must_lead(home: Home) -> None:
    """Raises ProvisionerError in a home that follows another: nothing is changed there."""
    if os.path.exists(home.follows):
        raise ProvisionerError(
            f"{home.path} follows another home: what is changed, is changed there",
            "Run it there; where that home is lost, take over: provisioner home promote",
        )
