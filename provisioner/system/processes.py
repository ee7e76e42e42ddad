"""The processes of this machine and the open files of this one, as far as the system shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator

DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
"""The directory whose entries are called like this process's descriptors."""


def are_shown() -> bool:
    return os.path.isdir("/proc/self")


def process_ids() -> Iterator[int]:
    """Those of all processes; none if the system does not show them. Each may have ended since."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal()) if are_shown() else iter(())
