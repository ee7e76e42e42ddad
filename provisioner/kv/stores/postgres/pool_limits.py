"""How many connections a process may have to a PostgreSQL server. Light: it is said before anything of PostgreSQL is
imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class PoolLimits:
    """`most` of all, of which half at most listen; `each` to one database, beside one that listens."""

    most: int = 40  # PostgreSQL's own limit is 100 by default
    each: int = 8


POOL: Final = PoolLimits()
"""The limits of this process. A lower limit must be set before the first connection."""
