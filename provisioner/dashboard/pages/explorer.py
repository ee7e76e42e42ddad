"""The content of a database: keys as a tree of their parts, and as a list; an entry; and the changes since a fork.

Nothing here counts keys or skips over them: each step is a look-up by key, so a million keys are as fast as ten.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any, Final

from starlette.responses import Response

from provisioner.connect.server.databases.open_databases import CACHE_KIB
from provisioner.core.errors import NotResolved
from provisioner.dashboard.pages.database import found, heading
from provisioner.dashboard.pages.database_rows import database_of
from provisioner.dashboard.values import value_display, value_form
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.engines.open_store import open_store
from provisioner.kv.codec import json_notation
from provisioner.kv.codec import key as keys_
from provisioner.kv.dump.diff import EntryChange, Kind, Side, diff
from provisioner.kv.errors import CursorInvalid, KeyInvalid, KvError, OptionInvalid
from provisioner.kv.local_store import DirectStore, Row
from provisioner.kv.model import NEVER, KvKey, ReadRange, StoredRow
from provisioner.registry.locations import place_of

AT_ONCE: Final = 50
BRANCHES: Final = 100
LOOKED_AT: Final = 8  # keys that are read first, to find branches
MOST_LOOKED_AT: Final = 64
CHANGES: Final = 200
COMPARE_SECONDS: Final = 3.0
_MARKS: Final = {Kind.ADDED: "added", Kind.CHANGED: "changed", Kind.REMOVED: "removed"}


@dataclass(frozen=True, slots=True)
class KeyNode:
    """One next part of keys: `path` is the key up to it. An `entry` has exactly this key, and `below` are longer keys."""

    part: str
    path: str
    below: bool
    entry: value_display.Shown | None


def keys(visit: PageContext) -> Response:
    """Invalid input is reported beside its field."""
    wrong = {}
    for field in ("prefix", "start", "end"):
        try:
            json_notation.key_of(visit.query(field) or "[]")
        except KvError as error:
            wrong[field] = str(error)
    if not wrong:
        try:
            return _keys(visit)
        except (CursorInvalid, OptionInvalid, KeyInvalid) as error:
            wrong["prefix"] = str(error)
    return _listing(visit, visit.query("prefix"), [], [], "", status=400, wrong=wrong)


def _keys(visit: PageContext) -> Response:
    prefix = json_notation.key_of(visit.query("prefix") or "[]")
    if visit.query("as") != "list":
        branches, following = tree(visit.store, prefix, visit.query("cursor"))
        return _listing(visit, text_of(prefix), branches, [], following, crumbs=_crumbs(prefix))
    start, end, reverse = visit.query("start"), visit.query("end"), visit.query("reverse") == "yes"
    entries, following = listed(visit.store, prefix, start, end, reverse, visit.query("cursor"))
    return _listing(visit, text_of(prefix), [], entries, following)


def _listing(
    visit: PageContext,
    prefix: str,
    branches: list[KeyNode],
    entries: list[value_display.Shown],
    following: str,
    *,
    status: int = 200,
    **context: Any,
) -> Response:
    return visit.page(
        "keys.html",
        status=status,
        **heading(visit, *found(visit)),
        prefix=prefix,
        branches=branches,
        entries=entries,
        following=following,
        as_list=visit.query("as") == "list",
        start=visit.query("start"),
        end=visit.query("end"),
        reverse=visit.query("reverse") == "yes",
        cursor=visit.query("cursor"),
        **{"crumbs": [], "wrong": {}, **context},
    )


def tree(store: DirectStore, prefix: KvKey, cursor: str) -> tuple[list[KeyNode], str]:
    """The next parts after a prefix, and the cursor of those that follow (empty at the end).

    If there is much below each, one look-up leads to the next part; if there is little, one look-up finds many.
    """
    root = keys_.encode(prefix)
    start, end = root + b"\0", root + b"\xff"
    if cursor:
        start = _place(cursor)
        if not root <= start <= end:
            raise CursorInvalid("the cursor is outside of the list")
    branches: list[KeyNode] = []
    listing = value_display.EntryPage()
    most = LOOKED_AT
    with closing(store.pinned()) as moment:
        while len(branches) < BRANCHES:
            (rows,) = moment.rows([ReadRange(start, end, most)])
            whole = len(rows) < most
            found, start = _branches(listing, prefix, rows, start, whole, BRANCHES - len(branches))
            branches += found
            if whole and (not rows or rows[-1][0] < start):
                return branches, ""
            most = min(2 * most, MOST_LOOKED_AT) if 2 * len(found) > most else max(most // 2, 2)
        (rows,) = moment.rows([ReadRange(start, end, 1)])
    return branches, base64.urlsafe_b64encode(start).decode() if rows else ""


def _branches(
    listing: value_display.EntryPage, prefix: KvKey, rows: list[Row], start: bytes, whole: bool, most: int
) -> tuple[list[KeyNode], bytes]:
    """The branches that these rows are on, and where the next one starts.

    If the rows are not the `whole` rest, the last one may have keys below it, so it is looked up again.
    """
    found: list[KeyNode] = []
    at = 0
    while at < len(rows) and len(found) < most and (whole or at + 1 < len(rows)):
        branch, start = _branch(listing, prefix, rows[at : at + 2])
        found.append(branch)
        while at < len(rows) and rows[at][0] < start:
            at += 1
    return found, start


def _branch(listing: value_display.EntryPage, prefix: KvKey, rows: list[Row]) -> tuple[KeyNode, bytes]:
    """The branch that the first of these keys is on, and where the next one starts."""
    first = rows[0][0]
    try:
        whole = keys_.decode(first)
        path = whole[: len(prefix) + 1]
        stem = keys_.encode(path)
    except KvError:
        stem = b""
    if not stem or not first.startswith(stem):  # the bytes are not a key: it is a branch alone
        return KeyNode(f"bytes {first.hex()}", "", False, listing.entry(_stored(rows[0]))), first + b"\0"
    entry = listing.entry(_stored(rows[0])) if first == stem else None
    below = entry is None or (len(rows) > 1 and rows[1][0].startswith(stem) and rows[1][0] < stem + b"\xff")
    return KeyNode(json_notation.text_of(json_notation.to_json(path[-1])), text_of(path), below, entry), stem + b"\xff"


def listed(
    store: DirectStore, prefix: KvKey, start: str, end: str, reverse: bool, cursor: str
) -> tuple[list[value_display.Shown], str]:
    """Entries by prefix, or between two keys, and the cursor of those that follow."""
    first = json_notation.key_of(start) if start else None
    last = json_notation.key_of(end) if end else None
    selector = keys_.Selector.of(None if first and last else prefix, first, last)
    (rows,) = store.rows([selector.read(AT_ONCE + 1, reverse, cursor or None)])
    listing = value_display.EntryPage()
    shown = [listing.entry(_stored(row)) for row in rows[:AT_ONCE]]
    return shown, selector.cursor(rows[AT_ONCE - 1][0]) if len(rows) > AT_ONCE else ""


def entry(visit: PageContext) -> Response:
    database, app, timeline = found(visit)
    key = asked(visit)
    row = visit.store.row(key)
    deleted = (database.id, key, None)
    kept = visit.session.kept.items()
    replaced = [name for name, each in kept if (each.database_id, each.key, each.after) == deleted]
    return visit.page(
        "entry.html",
        **heading(visit, database, app, timeline),
        id=key.hex(),
        key=key_named(key),
        parent=parent(key),
        entry=None if row is None else value_display.entry(row),
        fixed="" if row is None else value_form.fixed(row),
        seen="" if row is None else value_form.sealed(row),
        taken_back_by=replaced[-1] if replaced else "",
    )


def asked(visit: PageContext) -> bytes:
    """The key that the query names. Raises Missing."""
    try:
        return bytes.fromhex(visit.query("key"))
    except ValueError as error:
        raise Missing("that is not a key", "Choose one from the list") from error


def key_named(key: bytes) -> str:
    return value_display.key_text(key) or f"bytes {key.hex()}"


def changes(visit: PageContext) -> Response:
    """The differences from the database's source: a limited number, found within a few seconds."""
    database, app, timeline = found(visit)
    source = database_of(visit.registry, database.forked_from) if database.forked_from else None
    if source is None:
        raise NotResolved(
            f"database {database.name} has no source that still exists",
            "To compare any two databases: provisioner database diff A B",
        )
    place = place_of(visit.registry, source.id)
    assert place is not None  # noqa: S101 - it was found
    with closing(open_store(place, source.id, CACHE_KIB)) as other:
        differing, complete = compared(other, visit.store, database.fork_version)
    counts = Counter(kind for kind, *_ in differing)
    return visit.page(
        "changes.html",
        **heading(visit, database, app, timeline),
        source=source,
        differing=differing,
        complete=complete,
        counts=counts,
    )


Difference = tuple[str, str, value_display.Shown | None, value_display.Shown | None]
"""The kind of change, its origin, the entry before and after."""


def compared(first: DirectStore, second: DirectStore, fork: int | None) -> tuple[list[Difference], bool]:
    """The first differences, and whether these are all."""
    deadline = monotonic() + COMPARE_SECONDS
    differing: list[Difference] = []
    listing = value_display.EntryPage()
    try:
        with first.moment(pages=True) as one, second.moment(pages=True) as two:
            for moment in (one, two):
                moment.end_by(deadline)
            for change in islice(diff(one, two, fork_version=fork), CHANGES + 1):
                differing.append(_difference(listing, change))
    except KvError:
        if monotonic() < deadline:
            raise
        return differing, False
    return differing[:CHANGES], len(differing) <= CHANGES


def _difference(listing: value_display.EntryPage, change: EntryChange) -> Difference:
    who = {Side.FIRST: "in the source", Side.SECOND: "here", Side.BOTH: "in both", None: ""}[change.by]
    before, after = (None if row is None else listing.entry(row) for row in (change.before, change.after))
    return _MARKS[change.kind], who, before, after


def _crumbs(prefix: KvKey) -> list[tuple[str, str]]:
    """Each part of a prefix with the key up to it."""
    return [
        (json_notation.text_of(json_notation.to_json(part)), text_of(prefix[: depth + 1]))
        for depth, part in enumerate(prefix)
    ]


def text_of(key: KvKey) -> str:
    return json_notation.text_of([json_notation.to_json(part) for part in key])


def parent(key: bytes) -> str:
    """The prefix that a key is listed under."""
    try:
        return text_of(keys_.decode(key)[:-1])
    except KvError:
        return "[]"


def _stored(row: Row) -> StoredRow:
    return (*row, NEVER)


def _place(cursor: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(cursor)
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid("that is not a cursor") from error
