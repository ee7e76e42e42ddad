"""SQLite as `provisioner exec` can afford it.

The bare `_sqlite3` module takes 1 ms where `sqlite3` takes 9. Of `functools`, whose import takes 2 more, it wants one
function for its cache of statements; a process that asks one question or two gets that function alone.
"""

from __future__ import annotations

import sys

if "functools" in sys.modules:
    import _sqlite3
else:
    from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]

    def lru_cache(maxsize):  # type: ignore[no-untyped-def]
        """What ``functools.lru_cache`` does for `_sqlite3`, which calls it with a size and never asks for figures."""
        return lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)

    stand_in = type(sys)("functools")
    stand_in.lru_cache = lru_cache  # type: ignore[attr-defined]
    sys.modules["functools"] = stand_in
    try:
        import _sqlite3
    finally:
        del sys.modules["functools"]

Error = _sqlite3.Error
connect = _sqlite3.connect
Row = _sqlite3.Row
