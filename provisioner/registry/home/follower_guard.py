"""Whether things may be changed in a home: only if it is that home, and follows no other; see identity.py, replica.py."""

from __future__ import annotations

import os

from provisioner.core.errors import ProvisionerError
from provisioner.system.home import Home
from provisioner.system.home_guard import must_be_home


def must_lead(home: Home) -> None:
    """Raises ProvisionerError in a home that follows another, or is not the one it says: nothing is changed there."""
    must_be_home(home)
    if os.path.exists(home.follows):
        raise ProvisionerError(
            f"{home.path} follows another home and is read-only",
            "Run this there; if that home is lost, run: provisioner home promote",
        )
