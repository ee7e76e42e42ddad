"""Rows are read and written by the names of columns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Status
from provisioner.registry.schema.row_type import RowType, one_of


@dataclass(frozen=True)
class Shelf:
    id: str
    full: bool
    status: Status
    books: int = 0


SHELF = RowType(Shelf, "shelf", ("id", "full", "status"), parse={"full": bool, "status": one_of(Status)})


def test_a_row_is_read_into_its_fields_and_written_from_them() -> None:
    shelf = SHELF.read(("a", 1, "connected"))
    assert shelf == Shelf("a", True, Status.CONNECTED)
    assert SHELF.values(shelf) == ["a", True, "connected"]
    assert SHELF.select == "shelf.id, shelf.full, shelf.status"
    assert SHELF.upsert(SHELF.all_but("id"), "touched = 1") == (
        "insert into shelf (id, full, status) values (?, ?, ?) on conflict (id) do update set"
        " full = excluded.full, status = excluded.status, touched = 1"
    )


def test_columns_in_another_order_than_the_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="not the fields of Shelf"):
        RowType(Shelf, "shelf", ("id", "status", "full"), parse={})


def test_an_unknown_member_is_a_damaged_registry() -> None:
    with pytest.raises(StorageFailed, match="corrupt: 'lost' is not a Status"):
        SHELF.read(("a", 0, "lost"))
