"""A table of text with columns as wide as their cells. On a narrow terminal, names lose their middle and columns go.

It is plain text and a few colors. rich, which can do more, takes a third of a millisecond for each row: seconds for an
app with thousands of branches.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

GAP: Final = "  "
READABLE: Final = 20  # columns of a name before another column goes
LEAST: Final = 6  # columns of a name in the end
_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@dataclass(frozen=True, slots=True)
class Column:
    """`right`: it is aligned there, and never shortened. `dropped`: if the terminal is too narrow, the column with the
    lowest of these goes first; None: it always stays."""

    title: str
    right: bool = False
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A text for each column, without line breaks; by a cell's number, its style."""

    cells: tuple[str, ...]
    styles: Mapping[int, str] = field(default_factory=dict)


def lines(columns: Sequence[Column], rows: Sequence[TableRow], *, width: int | None, styled: bool) -> Iterator[str]:
    """The table's lines, one a row and not longer than `width` (None: as long as they get)."""
    heading = TableRow(tuple(column.title for column in columns), dict.fromkeys(range(len(columns)), "bold"))
    widths = [max(map(columns_of, cells)) for cells in zip(*(row.cells for row in (heading, *rows)), strict=True)]
    shown = list(range(len(columns)))
    if width is not None:
        shown, widths = _fitted(columns, widths, width)
    for row in (heading, *rows):
        yield _line(columns, row, shown, widths, styled=styled)


def room(stream: TextIO) -> int | None:
    """The width for a table: that of the terminal, or `COLUMNS`; None for a file or a pipe, where nothing is cut."""
    if not stream.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return shutil.get_terminal_size().columns


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _fitted(columns: Sequence[Column], widths: list[int], width: int) -> tuple[list[int], list[int]]:
    """The columns that are shown, and the widths of all: names are shortened to `READABLE`, then columns go, then names are
    shortened further."""
    shown = list(range(len(columns)))
    fitted = _shortened(columns, shown, widths, width, READABLE)
    while _taken(shown, fitted) > width:
        going = [number for number in shown if columns[number].dropped is not None]
        if not going:
            return shown, _shortened(columns, shown, widths, width, LEAST)
        shown.remove(min(going, key=lambda number: columns[number].dropped or 0))
        fitted = _shortened(columns, shown, widths, width, READABLE)
    return shown, fitted


def _taken(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[number] for number in shown) + len(GAP) * (len(shown) - 1)


def _shortened(columns: Sequence[Column], shown: Sequence[int], widths: list[int], width: int, least: int) -> list[int]:
    """The widths, with the excess taken from the widest columns that are shown."""
    fitted = list(widths)
    while (over := _taken(shown, fitted) - width) > 0:
        wide = [number for number in shown if not columns[number].right and fitted[number] > least]
        if not wide:
            return fitted
        widest = max(wide, key=lambda number: fitted[number])
        second = max((fitted[number] for number in wide if fitted[number] < fitted[widest]), default=least)
        fitted[widest] -= min(over, max(1, fitted[widest] - second))
    return fitted


def _line(
    columns: Sequence[Column], row: TableRow, shown: Sequence[int], widths: Sequence[int], *, styled: bool
) -> str:
    parts = []
    for number in shown:
        piece = shortened(row.cells[number], widths[number])
        blank = " " * (widths[number] - columns_of(piece))
        style = _STYLES.get(row.styles.get(number, "")) if styled and piece else None
        text = f"\x1b[{style}m{piece}\x1b[0m" if style else piece
        parts.append(blank + text if columns[number].right else text + blank)
    return GAP.join(parts).rstrip()


def shortened(text: str, width: int) -> str:
    """The text without its middle if it is longer than `width` columns."""
    if columns_of(text) <= width:
        return text
    end = _beginning(text[::-1], (width - 1) // 2)[::-1]
    return _beginning(text, width - 1 - columns_of(end)) + "…" + end


def _beginning(text: str, width: int) -> str:
    taken = 0
    for number, char in enumerate(text):
        taken += _columns_of(char)
        if taken > width:
            return text[:number]
    return text
