"""The server's counters, for Prometheus. They contain no names or ids of databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from provisioner.system.service_thread import ThreadState

MICROSECONDS: Final = 1e-6
_DOUBLINGS: Final = 24  # the last bucket with a bound ends at 8 s, or at eight million


class Histogram:
    """Counts by powers of two of `unit`: finding the bucket of a value costs next to nothing."""

    __slots__ = ("_per_unit", "counts", "total", "unit")

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self.counts = [0] * (_DOUBLINGS + 1)
        self.total = 0.0
        self._per_unit = 1 / unit

    def add(self, value: float) -> None:
        doublings = int(value * self._per_unit).bit_length()
        self.counts[doublings if doublings < _DOUBLINGS else _DOUBLINGS] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        found = []
        running = 0
        for doublings, count in enumerate(self.counts):
            running += count
            bound = f"{2**doublings * self.unit:g}" if doublings < _DOUBLINGS else "+Inf"
            found.append(f'{name}_bucket{{{labels}le="{bound}"}} {running}')
        inner = labels.rstrip(",")
        return [*found, f"{name}_sum{{{inner}}} {self.total:.6f}", f"{name}_count{{{inner}}} {running}"]


class Metrics:
    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.eventual_reads: Counter[str] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.groups = Histogram(1)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        self.requests[operation, status] += 1
        histogram = self.seconds.get(operation)
        if histogram is None:
            histogram = self.seconds[operation] = Histogram(MICROSECONDS)
        histogram.add(seconds)

    def text(self, gauges: Mapping[str, tuple[str, float]], threads: Sequence[ThreadState]) -> str:
        """All of it; `gauges` are the present numbers: by name, what they are, and the value."""
        lines = _head("requests_total", "counter", "Requests answered.")
        lines += [
            f'provisioner_requests_total{{operation="{operation}",status="{status}"}} {count}'
            for (operation, status), count in sorted(self.requests.items())
        ]
        lines += _head("eventual_reads_total", "counter", "Reads that may be older, by who answered them.")
        lines += [
            f'provisioner_eventual_reads_total{{by="{by}"}} {self.eventual_reads[by]}' for by in ("primary", "standby")
        ]
        lines += _head("request_seconds", "histogram", "Time from a request's headers to its answer.")
        for operation, histogram in sorted(self.seconds.items()):
            lines += histogram.lines("provisioner_request_seconds", f'operation="{operation}",')
        lines += _head("group_commit_writes", "histogram", "Atomic writes that shared one durable transaction.")
        lines += self.groups.lines("provisioner_group_commit_writes", "")
        for name, (what, value) in gauges.items():
            lines += _head(name, "counter" if name.endswith("_total") else "gauge", what)
            lines.append(f"provisioner_{name} {value:g}")
        lines += _head("thread_up", "gauge", "Is the thread there?")
        lines += [f'provisioner_thread_up{{thread="{thread.name}"}} {thread.alive:d}' for thread in threads]
        lines += _head("thread_failures_total", "counter", "Failures of a thread, which continued.")
        lines += [
            f'provisioner_thread_failures_total{{thread="{thread.name}"}} {thread.failures}' for thread in threads
        ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP provisioner_{name} {what}", f"# TYPE provisioner_{name} {kind}"]
