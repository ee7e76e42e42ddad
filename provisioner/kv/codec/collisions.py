"""Numbers chosen to make Python's dictionaries and sets slow: many bigints with the same hash.

Python hashes an integer as its remainder by 2**61 - 1, and looks at all that have the same one: 3,400 of them in one value
take as long as 170,000 others. No program stores such by chance.
"""

from __future__ import annotations

from typing import Any, Final

from provisioner.kv.errors import ValueInvalid
from provisioner.kv.model import BigInt

MOST: Final = 64
_BITS: Final = 60  # smaller ones hash to themselves


class Collisions:
    """Of the keys of one map, or the items of one set."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, item: Any) -> None:
        """Raises ValueInvalid for one too many."""
        if isinstance(item, BigInt) and item.bit_length() > _BITS:
            known = hash(item)
            self._counts[known] = count = self._counts.get(known, 0) + 1
            if count > MOST:
                raise ValueInvalid(
                    f"more than {MOST} bigints in a map or set have the same hash, which looks like an attack"
                )


def checked(items: list[Any]) -> list[Any]:
    """The same. Raises ValueInvalid."""
    collisions = Collisions()
    for item in items:
        collisions.add(item)
    return items
