"""Tables of text: each row is one line, whatever the terminal's width and whatever is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.cli.table import LEAST, Column, TableRow, columns_of, lines, shortened

COLUMNS = (Column("NAME"), Column("STATE"), Column("SIZE", right=True))

texts = st.text(st.characters(categories=("L", "N", "P", "S", "Mn")), max_size=30)


def test_columns_are_as_wide_as_their_cells_and_numbers_are_on_the_right() -> None:
    rows = [TableRow(("a", "ok", "1 B")), TableRow(("long-name", "broken", "100 kB"))]
    assert list(lines(COLUMNS, rows, width=None, styled=False)) == [
        "NAME       STATE     SIZE",
        "a          ok         1 B",
        "long-name  broken  100 kB",
    ]


def test_wide_characters_take_two_columns() -> None:
    rows = [TableRow(("修正", "ok", "")), TableRow(("abcde", "ok", ""))]
    assert [line.rstrip() for line in lines(COLUMNS, rows, width=None, styled=False)][1:] == [
        "修正   ok",
        "abcde  ok",
    ]


def test_styles_surround_the_text_alone() -> None:
    (_, line) = lines(COLUMNS[:2], [TableRow(("a", "ok"), {1: "green"})], width=None, styled=True)
    assert line == "a     \x1b[32mok\x1b[0m"


@given(first=texts, second=texts, width=st.integers(20, 90))
def test_a_row_is_one_line_that_fits_and_a_name_loses_only_its_middle(first: str, second: str, width: int) -> None:
    heading, *found = lines(COLUMNS, [TableRow((first, second, "1kB"))], width=width, styled=False)
    assert len(found) == 1
    assert all(columns_of(line) <= width for line in (heading, *found))
    for text in (first, second):
        short = shortened(text, LEAST)
        assert columns_of(short) <= LEAST
        kept, _, end = short.partition("…") if columns_of(text) > LEAST else (text, "", "")
        assert text.startswith(kept)
        assert text.endswith(end)


def test_the_least_important_columns_go_before_names_become_unreadable() -> None:
    columns = (Column("NAME"), Column("SIZE", right=True, dropped=2), Column("AGE", right=True, dropped=1))
    rows = [TableRow(("x" * 40, "36.9 kB", "3 min"))]
    headings = {width: next(lines(columns, rows, width=width, styled=False)).split() for width in (60, 36, 35, 25, 10)}
    assert headings == {
        60: ["NAME", "SIZE", "AGE"],
        36: ["NAME", "SIZE", "AGE"],
        35: ["NAME", "SIZE"],
        25: ["NAME"],
        10: ["NAME"],
    }
