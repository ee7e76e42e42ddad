"""Sizes in bytes as users write them."""

from __future__ import annotations

from provisioner.core.errors import UsageError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
LARGEST = 2**62


def size(text: str) -> int:
    """Bytes: ``500MB``, ``4GB``, ``2GiB``; a bare number is bytes."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text[len(number) :].strip().upper()
    if unit not in _UNITS or not number.isdecimal() or len(number) > 19 or int(number) * _UNITS[unit] > LARGEST:
        raise UsageError(f"{text!r} is not a size", "Use a value such as 500MB or 4GB")
    return int(number) * _UNITS[unit]
