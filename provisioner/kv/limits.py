"""What Deno KV allows at most. Sizes in bytes, times in milliseconds."""

from __future__ import annotations

from typing import Final

KEY_WRITTEN: Final = 2048
KEY_READ: Final = 2049  # a range ends one byte behind its last key
VALUE: Final = 65_536
READ_RANGES: Final = 10
READ_ENTRIES: Final = 1000
CHECKS: Final = 100
MUTATIONS: Final = 1000  # mutations and enqueues of one atomic operation
MUTATION_BYTES: Final = 819_200
KEY_BYTES: Final = 81_920
WATCHED_KEYS: Final = 10

BATCH_DEFAULT: Final = 100
BATCH_OF_A_LIMIT: Final = 500  # where a limit, not a batch size, says how much to read at once

DELAY: Final = 30 * 24 * 60 * 60 * 1000
BACKOFF_INTERVALS: Final = 5
BACKOFF_INTERVAL: Final = 60 * 60 * 1000
BACKOFF_DEFAULT: Final = (100, 1000, 5000, 30_000, 60_000)
