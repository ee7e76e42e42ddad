"""The names nearest to one that was mistyped."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 3
_LONGEST_LIST = 5_000  # more names take longer to compare than a person waits


def nearest(text: str, names: Iterable[str | bytes]) -> tuple[str, ...]:
    """The names that are most like `text`, the nearest first; none if none is."""
    from difflib import get_close_matches  # of what is imported only if something failed
    from itertools import islice

    known = [name if isinstance(name, str) else os.fsdecode(name) for name in islice(names, _LONGEST_LIST)]
    return tuple(get_close_matches(text, known, MOST))
