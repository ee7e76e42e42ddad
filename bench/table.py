"""What a measurement says, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is what the target is about; None where there is only a figure to report."""

    name: str
    ours: str
    peer: str
    ratio: float | None
    target: float | None

    @property
    def verdict(self) -> str:
        if self.ratio is None or self.target is None:
            return "-"
        return "ok" if self.ratio <= self.target else "over"


def compared(name: str, ours: Sequence[float], peer: Sequence[float], target: float | None) -> Row:
    """Seconds of ours against seconds of the peer, median by median."""
    ratio = statistics.median(ours) / statistics.median(peer)
    return Row(name, spread(ours), milliseconds(statistics.median(peer)), ratio, target)


def spread(seconds: Sequence[float]) -> str:
    return (
        f"{milliseconds(statistics.median(seconds))}"
        f" ({milliseconds(quantile(seconds, 0.1))}-{milliseconds(quantile(seconds, 0.9))})"
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The value at `part` (0 to 1) of the ordered values, between two of them by proportion."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def printed(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    cells = [("name", "ours median (p10-p90)", "peer median", "ratio", "target", "")]
    cells += [(row.name, row.ours, row.peer, _number(row.ratio), _number(row.target), row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
