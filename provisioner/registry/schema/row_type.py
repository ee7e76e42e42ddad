"""How rows of a table become values and back, by the names of their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from provisioner.registry.errors import member

_T = TypeVar("_T")
Parse = Callable[[Any], object]


class RowType(Generic[_T]):
    """The columns that a dataclass is stored in, which are called like its fields.

    `parse` has, by the names of columns, what a stored value becomes; `computed` the SQL of columns that are only read, and
    `stored` how fields are written that are not stored as they are. `joined` is a field that several columns in a row make
    up, which the value also has as properties: its name, the columns, and what makes it of the row's key and their values.
    """

    def __init__(
        self,
        kind: type[_T],
        table: str,
        columns: Sequence[str],
        *,
        parse: Mapping[str, Parse],
        computed: Mapping[str, str] | None = None,
        stored: Mapping[str, Parse] | None = None,
        joined: tuple[str, Sequence[str], Callable[..., object]] | None = None,
    ) -> None:
        self.table = table
        self.names = tuple(columns)
        self._computed = computed or {}
        self._kind: Callable[..., _T] = kind
        read = (*self.names, *self._computed)
        known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        # Positions are computed here, once: reading ten thousand rows by dictionaries would take twice as long.
        expected = list(read)
        self._joined: tuple[slice, Callable[..., object]] | None = None
        if joined is not None:
            field, parts, join = joined
            place = slice(read.index(parts[0]), read.index(parts[0]) + len(parts))
            if expected[place] != list(parts):
                raise TypeError(f"the columns of {table} for {field} are not together")
            expected[place] = [field]
            self._joined = (place, join)
        if expected != known[: len(expected)]:
            raise TypeError(f"the columns of {table} are not the fields of {kind.__name__}, in their order")
        self._parsers = [(read.index(name), parse[name]) for name in parse]
        self._writers = [(self.names.index(name), write) for name, write in (stored or {}).items()]
        self._fields = attrgetter(*self.names)

    @property
    def width(self) -> int:
        """How many columns `select` has."""
        return len(self.names) + len(self._computed)

    @property
    def select(self) -> str:
        """The columns for a select, each with its table."""
        return ", ".join([*(f"{self.table}.{name}" for name in self.names), *self._computed.values()])

    def read(self, row: Sequence[object]) -> _T:
        """The value of a row of `select`."""
        values = list(row)
        for position, parse in self._parsers:
            values[position] = parse(values[position])
        if self._joined is not None:
            place, join = self._joined
            values[place] = [join(values[0], *values[place])]
        return self._kind(*values)

    def values(self, item: _T) -> list[object]:
        """What is stored of it, in the order of `names`."""
        values = list(self._fields(item))
        for position, write in self._writers:
            values[position] = write(values[position])
        return values

    def insert(self) -> str:
        return insert(self.table, self.names)

    def upsert(self, changed: Sequence[str], *also: str, key: str = "id") -> str:
        """Insert a row, or change these columns of the one with its key, and what `also` says in SQL."""
        return upsert(self.table, self.names, changed, *also, key=key)

    def all_but(self, *kept: str) -> list[str]:
        """The names of the columns but for these."""
        return [name for name in self.names if name not in kept]


def insert(table: str, names: Sequence[str]) -> str:
    """Insert a row with these columns."""
    return f"insert into {table} ({', '.join(names)}) values ({', '.join('?' * len(names))})"


def upsert(table: str, names: Sequence[str], changed: Sequence[str], *also: str, key: str) -> str:
    """Insert a row with these columns, or change some of the one with its key, and what `also` says in SQL."""
    assignments = [*(f"{name} = excluded.{name}" for name in changed), *also]
    return f"{insert(table, names)} on conflict ({key}) do update set {', '.join(assignments)}"


class _Members(dict[Any, Any]):
    """The members of an enum by their values, and what `more` has: a lookup without a call, for ten thousand rows."""

    def __init__(self, kind: type[StrEnum], more: Mapping[Any, Any]) -> None:
        super().__init__({**{each.value: each for each in kind}, **more})
        self._kind = kind

    def __missing__(self, value: Any) -> Any:
        return member(self._kind, value)


def one_of(kind: type[StrEnum]) -> Parse:
    return _Members(kind, {}).__getitem__


def one_or_none(kind: type[StrEnum]) -> Parse:
    return _Members(kind, {None: None, "": None}).__getitem__


def texts(value: Any) -> tuple[str, ...]:
    """A list that is stored as JSON."""
    return tuple(json.loads(str(value)))
