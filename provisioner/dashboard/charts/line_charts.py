"""Metrics over time as lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from provisioner.core.clock import rfc3339
from provisioner.dashboard.charts.metrics_history import Sample
from provisioner.operations.documents import size_text

WIDTH: Final = 440
HEIGHT: Final = 120
_LEFT: Final = 8
_TOP: Final = 22
_BOTTOM: Final = 18


@dataclass(frozen=True, slots=True)
class ChartLine:
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Plot:
    """`summary` describes it in words. `top` is the value at the upper edge."""

    title: str
    lines: list[ChartLine]
    top: str
    summary: str
    begin: str
    end: str


Value = Callable[[Sample], float | None]


def plots(samples: Sequence[Sample]) -> list[Plot]:
    """Empty if there are fewer than two samples, because a line needs two ends."""
    if len(samples) < 2:
        return []
    return [
        _plot("Requests a second", samples, [("requests", lambda each: each.requests)], lambda value: f"{value:.3g}"),
        _plot(
            "Commit latency",
            samples,
            [("p50", lambda each: each.median), ("p99", lambda each: each.slow)],
            lambda value: f"{value:.3g} ms",
        ),
        _plot(
            "Size of all databases", samples, [("bytes", lambda each: each.size)], lambda value: size_text(int(value))
        ),
        _plot(
            "Connected databases", samples, [("databases", lambda each: each.connected)], lambda value: f"{value:.0f}"
        ),
    ]


def _plot(title: str, samples: Sequence[Sample], wanted: list[tuple[str, Value]], text: Callable[[float], str]) -> Plot:
    known = [value for _, of in wanted for sample in samples if (value := of(sample)) is not None]
    most = max(known, default=0.0)
    latest = next((value for sample in reversed(samples) if (value := wanted[0][1](sample)) is not None), None)
    summary = f"now {text(latest)}, at most {text(most)}" if latest is not None else "nothing yet"
    return Plot(
        title,
        [ChartLine(name, _path(samples, of, most or 1.0)) for name, of in wanted],
        text(most) if known else "",
        summary,
        rfc3339(samples[0].at) or "",
        rfc3339(samples[-1].at) or "",
    )


def _path(samples: Sequence[Sample], of: Value, most: float) -> str:
    """The line has a gap where a value is missing."""
    first, last = samples[0].at, samples[-1].at
    span = max(1, last - first)
    pieces = []
    pen = "M"
    for sample in samples:
        value = of(sample)
        if value is None:
            pen = "M"
            continue
        x = _LEFT + (WIDTH - 2 * _LEFT) * (sample.at - first) / span
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / most
        pieces.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(pieces)
