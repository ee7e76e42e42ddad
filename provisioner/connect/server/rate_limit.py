"""How many failed attempts an address has made lately. Valid tokens are never refused for it."""

from __future__ import annotations

import ipaddress

AT_ONCE = 10
PER_SECOND = 1.0
ADDRESSES = 10_000  # remembered at a time; counting does not stop a client with more of them


class RateLimiter:
    """A bucket of attempts for each address: ten at once, then one a second.

    Only the time at which a bucket will be full again is stored (seconds, of any clock that does not go back). An
    IPv6 network of 64 bits is one address: its owner can use all of them. Invalid addresses share one bucket.
    """

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def failed(self, address: str, now: float) -> bool:
        """Count a failed attempt. True: over the limit; such attempts are not counted."""
        who = network(address)
        full_at = max(self._full_at.pop(who, now), now)
        over = (full_at - now) * PER_SECOND > AT_ONCE - 0.5  # the half is for what adding up seconds rounds away
        self._full_at[who] = full_at if over else full_at + 1 / PER_SECOND
        if len(self._full_at) > ADDRESSES:
            del self._full_at[next(iter(self._full_at))]  # the one that has not failed for the longest time
        return over


def network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return (int(parsed) >> 64).to_bytes(8).hex()
