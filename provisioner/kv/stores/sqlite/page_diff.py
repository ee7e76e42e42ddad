"""Which keys may differ between two files of which one began as a copy of the other: those on pages that differ.

SQLite changes a page in place. So entries that are unchanged since the two were one are on pages with the same numbers and
the same bytes, and comparing bytes takes a twentieth of the time that reading entries does. The tree itself shows which pages
belong to which table, from its root down: https://www.sqlite.org/fileformat2.html, sections 1.5, 1.6 and 4.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct, error, unpack_from
from typing import Any, Final

from provisioner.kv.stores.sqlite import shared_extents
from provisioner.kv.stores.sqlite.pages import FilePages, UnknownFileLayout, varint
from provisioner.kv.stores.sqlite.snapshot import SqliteSnapshot

_CHUNK: Final = 64 * 1024
_INTERIOR, _LEAF = 0x02, 0x0A  # of a tree without rowids, whose inner pages hold entries too
_TABLE_INTERIOR, _TABLE_LEAF = 0x05, 0x0D
_MUCH: Final = 8  # if more than one page in this many differs, reading all entries is as fast
_number = Struct(">I").unpack_from
_short = Struct(">H").unpack_from


def maybe_different(first: object, second: object) -> set[bytes] | None:
    """The keys under which two snapshots may differ; None where that is best found out by reading everything."""
    if not isinstance(first, SqliteSnapshot) or not isinstance(second, SqliteSnapshot):
        return None
    one, other = first.pages, second.pages
    if one is None or other is None or (one.size, one.usable) != (other.size, other.usable):
        return None
    changed = _changed(one, other)
    if len(changed) * _MUCH > min(one.count, other.count) + 100 * _MUCH:
        return None
    try:
        return _Comparison(first, second, one, other, changed).keys()
    except (UnknownFileLayout, IndexError, error):
        return None


def _changed(one: FilePages, other: FilePages) -> set[int]:
    """The numbers of the pages that differ, and of those that only one of the two has."""
    size, common = one.size, min(one.count, other.count)
    changed = set(range(common + 1, max(one.count, other.count) + 1))
    ours, theirs = bytearray(_CHUNK), bytearray(_CHUNK)
    for start, end in _to_compare(one, other, common * size):
        for at in range(start, end, _CHUNK):
            os.preadv(one.descriptor, [ours], at)
            os.preadv(other.descriptor, [theirs], at)
            if ours == theirs:
                continue
            for inner in range(0, min(_CHUNK, end - at), size):
                if ours[inner : inner + size] != theirs[inner : inner + size]:
                    changed.add((at + inner) // size + 1)
    for number in {*one.log, *other.log}:
        if number <= common:
            (changed.discard if one[number] == other[number] else changed.add)(number)
    return changed


def _to_compare(one: FilePages, other: FilePages, length: int) -> Iterator[tuple[int, int]]:
    """The ranges in which the files have different blocks, in bytes, by whole pages."""
    at = 0
    for start, end in shared_extents.shared(one.descriptor, other.descriptor, length):
        start = -(-start // one.size) * one.size
        if start > at:
            yield at, min(start, length)
        at = max(at, end // one.size * one.size)
    if at < length:
        yield at, length


class _Comparison:
    def __init__(
        self, first: SqliteSnapshot, second: SqliteSnapshot, one: FilePages, other: FilePages, changed: set[int]
    ) -> None:
        self._sides = ((first, one), (second, other))
        self._changed = changed
        usable = one.usable
        self._most_local = (usable - 12) * 64 // 255 - 23
        self._least_local = (usable - 12) * 32 // 255 - 23

    def keys(self) -> set[bytes]:
        if not self._changed:
            return set()
        (first, one), (second, other) = self._sides
        same, ours, theirs = _trees(one, other, _root(first, one), _root(second, other), self._changed)
        # An entry that is the same in both, on whichever page, is recognized by its bytes.
        here = {cell for number in ours for cell in self._cells(one, number)}
        there = {cell for number in theirs for cell in self._cells(other, number)}
        keys = {self._key(one, *cell) for cell in here if cell not in there or cell[1] > self._most_local}
        keys |= {self._key(other, *cell) for cell in there if cell not in here}
        # What differs and belongs to nothing else are the ends of large values, whose beginnings may be as they were.
        if unknown := self._changed.difference(ours, theirs):
            for side, pages in self._sides:
                unknown -= _others(side, pages)
        if unknown:
            keys.update(self._large(one, same))
        return keys

    def _cells(self, pages: FilePages, number: int) -> Iterator[tuple[bytes, int]]:
        """Each entry on a page: the part on the page, with the number of the page that continues it, and its whole size."""
        page = pages[number]
        inner = 4 if page[0] == _INTERIOR else 0
        most = self._most_local
        for at in _pointers(page):
            size, at = varint(page, at + inner)
            end = at + size if size <= most else at + self._local(size) + 4
            yield page[at:end], size

    def _key(self, pages: FilePages, cell: bytes, size: int) -> bytes:
        if size > self._most_local:
            rest = (pages[number][4 : pages.usable] for number in self._chain(pages, cell, size))
            cell = b"".join((cell[:-4], *rest))
        header, start = varint(cell, 0)
        kind, _ = varint(cell, start)
        if kind < 12 or kind % 2:
            raise UnknownFileLayout("a key is not bytes")
        return cell[header : header + (kind - 12) // 2]

    def _local(self, size: int) -> int:
        """How many bytes of a content that is too large for its page are there all the same."""
        local = self._least_local + (size - self._least_local) % (self._sides[0][1].usable - 4)
        return local if local <= self._most_local else self._least_local

    def _chain(self, pages: FilePages, cell: bytes, size: int) -> Iterator[int]:
        """The pages on which the rest of a large content is."""
        (number,) = _number(cell, len(cell) - 4)
        for _ in range(-(-(size - len(cell) + 4) // (pages.usable - 4))):
            yield number
            (number,) = _number(pages[number], 0)

    def _large(self, pages: FilePages, numbers: list[int]) -> Iterator[bytes]:
        """The keys of entries on these pages whose further pages differ."""
        for number in numbers:
            for cell, size in self._cells(pages, number):
                if size > self._most_local and not self._changed.isdisjoint(self._chain(pages, cell, size)):
                    yield self._key(pages, cell, size)


def _trees(
    one: FilePages, other: FilePages, root: int, other_root: int, changed: set[int]
) -> tuple[list[int], list[int], list[int]]:
    """The pages of both trees of entries: those that both have and that are the same, and the others of each.

    All leaves lie at one depth; those that are the same are not looked at.
    """
    same: list[int] = []
    ours: list[int] = []
    theirs: list[int] = []
    level, mine, its = ([root], [], []) if root == other_root else ([], [root], [other_root])
    while True:
        hit = changed.intersection(level)
        if hit:
            level = [number for number in level if number not in hit]
        mine += hit
        its += hit
        same += level
        ours += mine
        theirs += its
        leaves = {
            pages[number][0] for pages, numbers in ((one, (level + mine)[:1]), (other, its[:1])) for number in numbers
        }
        if leaves != {_INTERIOR}:
            if leaves != {_LEAF}:
                raise UnknownFileLayout("the trees are not of the same depth")
            return same, ours, theirs
        level = _children(one, level)
        mine, its = _children(one, mine), _children(other, its)
        if moved := set(mine).intersection(its):
            level += moved
            mine = [number for number in mine if number not in moved]
            its = [number for number in its if number not in moved]


def _root(side: SqliteSnapshot, pages: FilePages) -> int:
    """The root page of the tree of entries."""
    rows: list[Any] = side.connection.execute("select rootpage from sqlite_master where name = 'kv'").fetchall()
    root = int(rows[0][0]) if rows else 0
    if not root or pages[root][0] not in (_INTERIOR, _LEAF):
        raise UnknownFileLayout("the table of the entries is another than Deno's")
    return root


def _pointers(page: bytes, offset: int = 0) -> tuple[int, ...]:
    """The offsets of the cells of a tree's page."""
    (count,) = _short(page, offset + 3)
    start = offset + (12 if page[offset] in (_INTERIOR, _TABLE_INTERIOR) else 8)
    found: tuple[int, ...] = unpack_from(f">{count}H", page, start)
    return found


def _tree(pages: FilePages, root: int) -> Iterator[int]:
    """The numbers of all pages of any tree."""
    level = [root]
    while True:
        yield from level
        kind = pages[level[0]][100 if level[0] == 1 else 0]
        if kind in (_LEAF, _TABLE_LEAF):
            return
        if kind not in (_INTERIOR, _TABLE_INTERIOR):
            raise UnknownFileLayout(f"page {level[0]} is of no tree")
        level = _children(pages, level)


def _children(pages: FilePages, numbers: list[int]) -> list[int]:
    """The pages below inner ones."""
    found: list[int] = []
    for number in numbers:
        page = pages[number]
        offset = 100 if number == 1 else 0
        found += [_number(page, at)[0] for at in _pointers(page, offset)]
        found += _number(page, offset + 8)
    return found


def _others(side: SqliteSnapshot, pages: FilePages) -> set[int]:
    """The pages of everything but the entries: other tables, indexes, and those that are free."""
    found = set(_tree(pages, 1))
    roots: list[Any] = side.connection.execute("select rootpage from sqlite_master where name <> 'kv'").fetchall()
    for (root,) in roots:
        if root:
            found.update(_tree(pages, root))
    (trunk,) = _number(pages[1], 32)
    while trunk and trunk not in found:
        found.add(trunk)
        trunk_page = pages[trunk]
        (trunk, count) = unpack_from(">2I", trunk_page)
        found.update(unpack_from(f">{count}I", trunk_page, 8))
    return found
