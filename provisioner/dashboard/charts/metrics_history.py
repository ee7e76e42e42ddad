"""The server's metrics over time, in memory: a sample every ten seconds for the last hour, one a minute for a day."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from provisioner.connect.server.metrics import Metrics

SECONDS: Final = 10
_HOUR: Final = 360
_DAY: Final = 1440


@dataclass(frozen=True, slots=True)
class Sample:
    """`at` in milliseconds since 1970; requests per second; p50 and p99 of the commit latency in milliseconds (None if none
    (None: without; bytes of all databases; connected databases."""

    at: int
    requests: float
    median: float | None
    slow: float | None
    size: int
    connected: int


class Samples:
    """`take` from one thread, reading from any."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._fine: deque[Sample] = deque(maxlen=_HOUR)
        self._coarse: deque[Sample] = deque(maxlen=_DAY)
        self._requests = 0
        self._counts: list[int] = []
        self._before = 0

    def take(self, now: int, size: int, connected: int) -> None:
        requests = sum(count for (name, _), count in list(self._metrics.requests.items()) if name != "dashboard")
        histogram = self._metrics.seconds.get("atomic_write")
        counts = list(histogram.counts) if histogram is not None else []
        new = [count - old for count, old in zip(counts, self._counts or [0] * len(counts), strict=True)]
        seconds = max(1, now - self._before) / 1000 if self._before else SECONDS
        unit = histogram.unit * 1000 if histogram is not None else 0.0
        rate = (requests - self._requests) / seconds
        sample = Sample(now, rate, quantile(new, 0.5, unit), quantile(new, 0.99, unit), size, connected)
        self._requests, self._counts, self._before = requests, counts, now
        with self._lock:
            self._fine.append(sample)
            if not self._coarse or now - self._coarse[-1].at >= 60_000:
                self._coarse.append(sample)

    def hour(self) -> list[Sample]:
        with self._lock:
            return list(self._fine)

    def day(self) -> list[Sample]:
        with self._lock:
            return list(self._coarse)


def quantile(counts: list[int], part: float, unit: float) -> float | None:
    """The value below which this part of the values is, as precisely as buckets of doubling width allow."""
    wanted = sum(counts) * part
    if not wanted:
        return None
    running = 0.0
    for doublings, count in enumerate(counts):
        if running + count >= wanted:
            low = 2.0 ** (doublings - 1) if doublings else 0.0
            return (low + (2.0**doublings - low) * (wanted - running) / count) * unit
        running += count
    return 2.0 ** len(counts) * unit
