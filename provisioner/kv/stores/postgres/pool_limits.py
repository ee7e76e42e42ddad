"""How many connections a process may have to a PostgreSQL server. Light: it is said before anything of PostgreSQL is
imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class PoolLimits:
    """`most` of all, of which half at most listen; `each` to one database, beside one that listens."""

    most: int = 40  # PostgreSQL's own limit is 100 unless it was told otherwise
    each: int = 8


POOL: Final = PoolLimits()
"""Of this process. Who makes it smaller does so before the first connection."""
