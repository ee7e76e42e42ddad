"""A clock that only runs forward, and only while this machine is up: neither people nor time servers set it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """Milliseconds since the boot with this id, without the time that the machine slept."""

    boot: str
    ms: int


def reading() -> Reading | None:
    """None if the system does not distinguish one boot from another."""
    boot = _boot()
    return Reading(boot, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000) if boot else None


def _boot() -> str:
    if sys.platform == "darwin":
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
