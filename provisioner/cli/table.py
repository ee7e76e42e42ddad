"""A table of text: columns as wide as their cells, folded if the terminal is narrower.

It is plain text and a few colors. rich, which can do more, takes a third of a millisecond for each row: seconds for an
app with thousands of branches.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

GAP: Final = "  "
LEAST: Final = 6  # columns of a folded cell
_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@dataclass(frozen=True, slots=True)
class Column:
    """`right`: it is aligned there, and never folded."""

    title: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A text for each column, without line breaks; by a cell's number, its style."""

    cells: tuple[str, ...]
    styles: Mapping[int, str] = field(default_factory=dict)


def lines(columns: Sequence[Column], rows: Sequence[Row], *, width: int | None, styled: bool) -> Iterator[str]:
    """The table's lines, not longer than `width` (None: as long as they get)."""
    heading = Row(tuple(column.title for column in columns), dict.fromkeys(range(len(columns)), "bold"))
    widths = [max(map(columns_of, cells)) for cells in zip(*(row.cells for row in (heading, *rows)), strict=True)]
    if width is not None:
        widths = _fitted(columns, widths, width - len(GAP) * (len(columns) - 1))
    for row in (heading, *rows):
        yield from _lines(columns, row, widths, styled=styled)


def styled(stream: TextIO) -> bool:
    """Are colors shown there? https://no-color.org"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _fitted(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """The widths, with what is too much taken from the widest columns."""
    fitted = list(widths)
    while (over := sum(fitted) - room) > 0:
        foldable = [number for number, column in enumerate(columns) if not column.right and fitted[number] > LEAST]
        if not foldable:
            return fitted
        widest = max(foldable, key=lambda number: fitted[number])
        second = max((fitted[number] for number in foldable if fitted[number] < fitted[widest]), default=LEAST)
        fitted[widest] -= min(over, max(1, fitted[widest] - second))
    return fitted


def _lines(columns: Sequence[Column], row: Row, widths: Sequence[int], *, styled: bool) -> Iterator[str]:
    folded = [_folded(cell, width) for cell, width in zip(row.cells, widths, strict=True)]
    for number in range(max(map(len, folded))):
        parts = []
        for place, (pieces, column, width) in enumerate(zip(folded, columns, widths, strict=True)):
            piece = pieces[number] if number < len(pieces) else ""
            blank = " " * (width - columns_of(piece))
            style = _STYLES.get(row.styles.get(place, "")) if styled and piece else None
            shown = f"\x1b[{style}m{piece}\x1b[0m" if style else piece
            parts.append(blank + shown if column.right else shown + blank)
        yield GAP.join(parts).rstrip()


def _folded(text: str, width: int) -> list[str]:
    if columns_of(text) <= width:
        return [text]
    pieces, piece, taken = [], "", 0
    for char in text:
        needed = _columns_of(char)
        if taken + needed > width and piece:
            pieces.append(piece)
            piece, taken = "", 0
        piece += char
        taken += needed
    return [*pieces, piece]
