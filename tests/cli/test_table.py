"""Tables of text: nothing of a cell is lost, whatever the terminal's width and whatever is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.cli.table import LEAST, Column, Row, columns_of, lines

COLUMNS = (Column("NAME"), Column("STATE"), Column("SIZE", right=True))

texts = st.text(st.characters(categories=("L", "N", "P", "S", "Mn")), max_size=30)


def test_columns_are_as_wide_as_their_cells_and_numbers_are_on_the_right() -> None:
    rows = [Row(("a", "ok", "1 B")), Row(("long-name", "broken", "100 kB"))]
    assert list(lines(COLUMNS, rows, width=None, styled=False)) == [
        "NAME       STATE     SIZE",
        "a          ok         1 B",
        "long-name  broken  100 kB",
    ]


def test_wide_characters_take_two_columns() -> None:
    rows = [Row(("修正", "ok", "")), Row(("abcde", "ok", ""))]
    assert [line.rstrip() for line in lines(COLUMNS, rows, width=None, styled=False)][1:] == [
        "修正   ok",
        "abcde  ok",
    ]


def test_styles_surround_the_text_alone() -> None:
    (_, line) = lines(COLUMNS[:2], [Row(("a", "ok"), {1: "green"})], width=None, styled=True)
    assert line == "a     \x1b[32mok\x1b[0m"


@given(first=texts, second=texts, width=st.integers(20, 90))
def test_folding_fits_and_loses_nothing(first: str, second: str, width: int) -> None:
    heading, *found = lines(COLUMNS, [Row((first, second, "1kB"))], width=width, styled=False)
    assert all(columns_of(line) <= width for line in (heading, *found))
    kept = sorted("".join(found).replace(" ", ""))
    assert kept == sorted(first + second + "1kB")
    assert "".join(found[1:]).replace(" ", "") == "" or max(columns_of(first), columns_of(second)) > LEAST
