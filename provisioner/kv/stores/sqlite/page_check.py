"""Whether the pages of an SQLite file are in order: of all of a small file, of a sample of a large one.

SQLite checks a file of 64 MiB in some 20 milliseconds. A larger one may be a copy that shares its blocks with another
file: reading all of it would take a hundred times as long as making it did. So a sample of its trees is read, from their
roots down to leaves and to the ends of large values: https://www.sqlite.org/fileformat2.html, sections 1.3 to 1.6.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from struct import Struct, error, unpack_from
from typing import Any, Final
from urllib.parse import quote

import apsw

from provisioner.kv.stores.sqlite import last_write, open_files
from provisioner.kv.stores.sqlite.connection import connect
from provisioner.kv.stores.sqlite.pages import FilePages, UnknownFileLayout, varint
from provisioner.kv.stores.sqlite.schema import HEADER

WHOLE: Final = 64 << 20  # bytes up to which all of a file is checked
DESCENTS: Final = 600  # from a root to a leaf
LINKS: Final = 64  # of the chain of a large value, or of the list of free pages
QUICK_SECONDS: Final = 10.0  # no honest file needs as long
SLOWEST_SECONDS, SLOWEST_RATE = 60.0, 1_000_000  # the longest time for reading all of it, and bytes a second besides
BUSY_MS: Final = 10_000
_TABLES: Final = ("kv", "data_version")
_KINDS: Final = {0x02: 0x0A, 0x05: 0x0D}
"""For each kind of inner page of a tree, the kind of its leaves."""

_header = Struct(">16xH10xI4xI")
_number = Struct(">I").unpack_from
_page_header = Struct(">BHHHB").unpack_from


def damage(path: str, *, whole: int = WHOLE, choose: random.Random | None = None) -> str:
    """What is wrong with the file of a Deno KV database that has no log and that no one else has open; empty if nothing was
    found. All of it is looked at if it has at most `whole` bytes, else a sample that `choose` picks. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        return _head(os.pread(fd, 100, 0), size) or _inside(path, fd, size, whole, choose or random.Random())  # noqa: S311
    finally:
        os.close(fd)


def _head(head: bytes, size: int) -> str:
    """What is wrong with the first bytes of a file of this size."""
    if len(head) < 100 or not head.startswith(HEADER):
        return "it is not an SQLite database"
    page_size, pages, free = _header.unpack_from(head)
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        return f"its page size is {page_size}"
    counted = head[24:28] == head[92:96]  # else written by an SQLite that did not count its pages
    if size % page_size or (counted and pages * page_size > size):
        return f"it has {size} bytes, which is not {pages} pages of {page_size}"
    if free > size // page_size:
        return f"{free} of its {size // page_size} pages are said to be free"
    return ""


def _inside(path: str, fd: int, size: int, whole: int, choose: random.Random) -> str:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        with closing(connect(f"file:{quote(os.path.abspath(path))}?immutable=1", flags)) as connection:
            rows: list[Any] = connection.execute("select name, rootpage from sqlite_schema where rootpage").fetchall()
            if not {name for name, _ in rows}.issuperset(_TABLES):
                return "the tables of Deno KV are not in it"
            if size <= whole:
                return _first_complaint(connection, "quick_check", QUICK_SECONDS)
            sizes: list[Any] = connection.execute("pragma page_size").fetchall()
    except apsw.InterruptError:  # a schema that others have made may make it take any time
        return ""
    except apsw.Error as problem:
        return str(problem)
    page_size = int(sizes[0][0])
    pages = FilePages(fd, page_size, size // page_size, {})
    try:
        _Sample(pages, choose).take([1, *(root for _, root in rows)])
    except (UnknownFileLayout, IndexError, error) as problem:
        return str(problem)
    return ""


def deep_damage(path: str, on: Callable[[], None]) -> str:
    """What is wrong with a database that others may be using, all of it read; empty if nothing is. `on` is called now and
    then. `path` is the file's own, no link to it. Raises OSError."""
    with open_files.untouched(path) as free, open(path, "rb") as file:
        if free and (problem := _head(file.read(100), os.fstat(file.fileno()).st_size)):
            return problem
    seconds = SLOWEST_SECONDS + os.path.getsize(path) / SLOWEST_RATE
    busy = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
    try:
        with last_write.kept(path), closing(connect(path, apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.set_busy_timeout(BUSY_MS)
            if busy:  # the log stays as it is: the next writer moves it into the file
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            return _first_complaint(connection, "integrity_check", seconds, on)
    except apsw.InterruptError:
        return f"it could not be read within {seconds:.0f} s"
    except apsw.Error as problem:
        return str(problem)


def _first_complaint(
    connection: apsw.Connection, check: str, seconds: float, on: Callable[[], None] | None = None
) -> str:
    """The first complaint of one of SQLite's checks; empty if it has none. Raises apsw.Error, and apsw.InterruptError after
    `seconds` seconds."""
    until = time.monotonic() + seconds

    def over() -> bool:
        if on is not None:
            on()
        return time.monotonic() > until

    connection.set_progress_handler(over, 100_000)
    found = [str(row[0]) for row in connection.execute(f"pragma {check}(1)").fetchall()]
    return next((" ".join(each.split()) for each in found if each != "ok"), "")


class _Sample:
    """Pages of trees that are read and found in order, or not."""

    def __init__(self, pages: FilePages, choose: random.Random) -> None:
        self._pages, self._choose = pages, choose
        self._known: dict[int, tuple[int, list[int], list[tuple[int, int]]]] = {}

    def take(self, roots: list[int]) -> None:
        """Raises Strange, or the error of reading a page of another kind."""
        self._free()
        for root in roots:
            kind, _, _ = self._page(root)
            for _ in range(DESCENTS if kind in _KINDS else 1):
                self._descend(root)

    def _descend(self, number: int) -> None:
        """From a root to a leaf, and to the end of a large value there."""
        kind, children, chains = self._page(number)
        passed = {number}
        while children:
            number = self._choose.choice(children)
            below, children, chains = self._page(number)
            if below not in (kind, _KINDS[kind]) or number in passed:
                raise UnknownFileLayout(f"page {number} is not where it should be")
            passed.add(number)
        if chains:
            self._follow(*self._choose.choice(chains))

    def _page(self, number: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        """The kind of a page of a tree, the pages below it, and the continuations of large values: page and number of bytes."""
        if number not in self._known:
            self._known[number] = self._read(number)
        return self._known[number]

    def _read(self, number: int) -> tuple[int, list[int], list[tuple[int, int]]]:
        page, start = self._pages[number], 100 if number == 1 else 0
        kind, free, count, content, _ = _page_header(page, start)
        inner = kind in _KINDS
        if not inner and kind not in _KINDS.values():
            raise UnknownFileLayout(f"page {number} is of no tree")
        content = content or 65536
        pointers = start + (12 if inner else 8)
        if pointers + 2 * count > content or content > self._pages.usable or free > self._pages.usable:
            raise UnknownFileLayout(f"the cells of page {number} do not fit into it")
        children: list[int] = []
        chains: list[tuple[int, int]] = []
        for at in unpack_from(f">{count}H", page, pointers):
            if not content <= at < self._pages.usable:
                raise UnknownFileLayout(f"a cell of page {number} is not in its place")
            child, chain = self._cell(page, kind, at, number)
            children += child
            chains += chain
        if inner:
            children.append(_number(page, start + 8)[0])
        for other in (*children, *(chain for chain, _ in chains)):
            if not 2 <= other <= self._pages.count:
                raise UnknownFileLayout(f"page {number} leads to page {other}, which there is not")
        return kind, children, chains

    def _cell(self, page: bytes, kind: int, at: int, number: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The page below a cell, and the continuation of its content."""
        child: list[int] = []
        if kind in _KINDS:
            child = [_number(page, at)[0]]
            at += 4
            if kind == 0x05:  # holds a number only
                return child, []
        size, at = varint(page, at)
        if kind == 0x0D:
            _, at = varint(page, at)
        local = self._local(size, table=kind == 0x0D)
        if at + local + (4 if local < size else 0) > self._pages.usable:
            raise UnknownFileLayout(f"a cell of page {number} does not fit into it")
        return child, [(_number(page, at + local)[0], size - local)] if local < size else []

    def _local(self, size: int, *, table: bool) -> int:
        """How many bytes of a content are on the page itself."""
        usable = self._pages.usable
        most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return size
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        return local if local <= most else least

    def _follow(self, number: int, left: int) -> None:
        """The pages of a large value: as many as its bytes need, the last of which leads nowhere."""
        for _ in range(LINKS):
            (following,) = _number(self._pages[number], 0)
            left -= self._pages.usable - 4
            if (left > 0) != (2 <= following <= self._pages.count) or (left <= 0 and following):
                raise UnknownFileLayout(f"the value that continues at page {number} has another length")
            if left <= 0:
                return
            number = following

    def _free(self) -> None:
        """The list of free pages, as far as `LINKS` links of it lead."""
        number, free = unpack_from(">2I", self._pages[1], 32)
        for _ in range(LINKS):
            if not number:
                return
            if not 2 <= number <= self._pages.count:
                raise UnknownFileLayout(f"the list of free pages leads to page {number}, which there is not")
            number, count = unpack_from(">2I", self._pages[number])
            if count > min(free, self._pages.usable // 4 - 2):
                raise UnknownFileLayout("the list of free pages is longer than its page")
