"""Changing the content of a database: creating, editing, and deleting keys, and undoing each of these.

Each is an atomic write that checks the versionstamp that the visitor saw. If it has changed, nothing is written, and a
page shows the entry that was seen, the current entry, and the edit. The audit log records the principal and the key;
values stay in the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Database, Timeline
from provisioner.dashboard.pages import explorer
from provisioner.dashboard.pages.database import connected, heading
from provisioner.dashboard.values import value_display, value_form
from provisioner.dashboard.values.value_form import Spelling
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.dashboard.web.sessions import Offer, ReplacedEntry
from provisioner.kv.codec import json_notation
from provisioner.kv.codec import key as keys
from provisioner.kv.dump import json_lines
from provisioner.kv.errors import KvError, Uncertain
from provisioner.kv.model import NEVER, AtomicWrite, Check, Committed, Mutation, MutationKind, StoredRow

ABSENT: Final = "absent"  # instead of a versionstamp
_LABEL: Final = "Undo"
_DETAIL: Final = 4000  # characters of a key in the audit log


@dataclass(frozen=True, slots=True)
class Draft:
    """The values of a form. `wrong` has the errors of its fields; `fixed` the reason why the value cannot be edited."""

    key: str = ""
    value: str = ""
    spelling: str = Spelling.JSON
    expiry: str = ""
    versionstamp: str = ABSENT
    seen: str = ""
    fixed: str = ""
    wrong: dict[str, str] = field(default_factory=dict)


def blank(visit: PageContext) -> Response:
    """The form for a new key."""
    if visit.session.read_only:
        return RedirectResponse(_path(visit, "keys"), 303)
    prefix = json_notation.key_of(visit.query("prefix") or "[]")
    text = explorer.text_of((*prefix, "")) if not visit.query("key") else explorer.key_named(explorer.asked(visit))
    return _form(visit, None, Draft(key=text))


def create(visit: PageContext) -> Response:
    form = visit.form
    draft = _typed(form, ABSENT)
    key = b""
    try:
        key = keys.encode(json_notation.key_of(draft.key))
        keys.check_written(key)
    except KvError as error:
        draft.wrong["key"] = str(error)
    stored = _stored(visit, draft, None)
    if visit.resumed or draft.wrong or stored is None:
        return _form(visit, None, draft, status=409 if visit.resumed else 400)
    replacement = (key, *stored[:2], None, stored[2])
    row = visit.store.row(key)
    if row is None and (offer := _changed(visit, "key.create", key, None, replacement)):
        return visit.done(_entry(visit, key), f"Created {explorer.key_named(key)}.", offer)
    return _conflict(visit, key, draft)


def form(visit: PageContext) -> Response:
    """The form for an entry."""
    key = explorer.asked(visit)
    row = visit.store.row(key)
    if visit.session.read_only or (row is None and not visit.live):
        return RedirectResponse(_entry(visit, key), 303)
    return _form(visit, key, _drafted(row) if row else Draft())


def edit(visit: PageContext) -> Response:
    key = explorer.asked(visit)
    row = visit.store.row(key)
    draft = _typed(visit.form, visit.form.get("versionstamp", ABSENT))
    seen = row if row and _stamp(row) == draft.versionstamp else None
    if seen and "value" not in visit.form:  # only the expiry was to be changed
        draft = replace(draft, fixed=value_form.fixed(seen))
    if seen is None and value_display.key_text(key) is None:
        raise Missing("that is not a key", "Choose one from the list")
    if seen is None and "value" not in visit.form:
        return _conflict(visit, key, draft)
    stored = _stored(visit, draft, seen)
    if visit.resumed or draft.wrong or stored is None:
        return _form(visit, key, draft, status=409 if visit.resumed else 400)
    if seen or (row is None and draft.versionstamp == ABSENT):
        replacement = (key, *stored[:2], None, stored[2])
        if offer := _changed(visit, "key.edit" if seen else "key.create", key, seen, replacement):
            return visit.done(_entry(visit, key), f"Saved {explorer.key_named(key)}.", offer)
    return _conflict(visit, key, draft)


def delete(visit: PageContext) -> Response:
    key = explorer.asked(visit)
    row = visit.store.row(key)
    versionstamp = visit.form.get("versionstamp", "")
    if row and _stamp(row) == versionstamp and (offer := _changed(visit, "key.delete", key, row, None)):
        listed = f"{_path(visit, 'keys')}?prefix={quote(explorer.parent(key))}"
        return visit.done(listed, f"Deleted {explorer.key_named(key)}.", offer)
    draft = Draft(versionstamp=versionstamp, seen=visit.form.get("seen", ""))
    return _conflict(visit, key, draft, deleting=True)


def undo(visit: PageContext) -> Response:
    """Undo a change, unless the same key has changed since."""
    database, *_ = connected(visit)
    kept = visit.session.kept.get(visit.form.get("change", ""))
    if kept is None or kept.database_id != database.id:
        raise Missing("that can no longer be undone", "Only the last changes of a session can")
    row = visit.store.row(kept.key)
    named = explorer.key_named(kept.key)
    if kept.before and NEVER != kept.before[4] <= visit.now:
        raise ProvisionerError(f"{named} would have expired by now, so it was not restored", "Create it again")
    if _check(row) == kept.after and (offer := _changed(visit, "key.undo", kept.key, row, kept.before)):
        visit.session.kept.pop(visit.form["change"], None)
        return visit.done(_entry(visit, kept.key), f"{named} is what it was before.", offer)
    raise ProvisionerError(f"{named} has changed since, so nothing was undone", "See it in the explorer")


def _typed(form: dict[str, str], versionstamp: str) -> Draft:
    return Draft(
        form.get("key", ""),
        form.get("value", ""),
        form.get("spelling", Spelling.JSON),
        form.get("expiry", ""),
        versionstamp,
        form.get("seen", ""),
    )


def _drafted(row: StoredRow) -> Draft:
    """The draft of an unchanged entry."""
    common: dict[str, Any] = {
        "expiry": value_form.expiry_text(row[4]),
        "versionstamp": _stamp(row),
        "seen": value_form.sealed(row),
    }
    try:
        spelling, text = value_form.spelled(row)
    except KvError as error:
        return Draft(fixed=str(error), **common)
    return Draft(value=text, spelling=spelling, **common)


def _stored(visit: PageContext, draft: Draft, seen: StoredRow | None) -> tuple[bytes, int, int] | None:
    """Value, encoding, and expiry as typed; an unchanged value stays bit by bit. None if something is invalid."""
    before = _drafted(seen) if seen else None
    data, encoding, expire_at = b"", 0, NEVER
    try:
        if seen and before and ("value" not in visit.form or _same(before, draft)):
            data, encoding = seen[1], seen[2]
        else:
            data, encoding = value_form.stored(draft.spelling, draft.value)
    except KvError as error:
        draft.wrong["value"] = str(error)
    try:
        if seen and before and draft.expiry.strip() == before.expiry:
            expire_at = seen[4]
        else:
            expire_at = value_form.expiry(draft.expiry, visit.now)
    except KvError as error:
        draft.wrong["expiry"] = str(error)
    return None if draft.wrong else (data, encoding, expire_at)


def _same(before: Draft, draft: Draft) -> bool:
    return before.spelling == draft.spelling and before.value == draft.value.replace("\r\n", "\n")


def _changed(
    visit: PageContext, action: str, key: bytes, row: StoredRow | None, wanted: StoredRow | None
) -> Offer | None:
    """Replace an entry that is unchanged, and record that in the audit log. None if it has changed.

    The log is written before the change, so there is no change without a record.
    """
    database, _, timeline = connected(visit)
    mutation = Mutation(MutationKind.DELETE, key)
    if wanted is not None:
        mutation = Mutation(MutationKind.SET, key, wanted[1], wanted[2], wanted[4])
    _record(visit, action, database, timeline, key)
    try:
        outcome = visit.write(AtomicWrite((Check(key, _check(row)),), (mutation,)))
    except Uncertain as error:
        _record(visit, "key.uncertain", database, timeline, key, f": {error}")
        raise
    except KvError as error:
        _record(visit, "key.refused", database, timeline, key, f": {error}")
        raise
    if not isinstance(outcome, Committed):
        _record(visit, "key.refused", database, timeline, key, ": it has changed in the meantime")
        return None
    name = visit.session.keep(ReplacedEntry(database.id, key, row, outcome.versionstamp if wanted else None))
    return Offer(_LABEL, _path(visit, "undo"), {"change": name})


def _record(visit: PageContext, action: str, database: Database, timeline: Timeline, key: bytes, why: str = "") -> None:
    visit.registry.record(
        visit.now,
        action,
        visit.session.principal,
        app_id=timeline.app_id,
        database_id=database.id,
        detail=explorer.key_named(key)[:_DETAIL] + why,
    )


def _conflict(visit: PageContext, key: bytes, draft: Draft, *, deleting: bool = False) -> Response:
    """The entry that was seen, the current entry, and the edit: with a form that continues from the current entry."""
    row = visit.store.row(key)
    seen = value_form.unsealed(draft.seen, key, draft.versionstamp)
    if row and not deleting and "value" not in visit.form:
        going_on = replace(_drafted(row), expiry=draft.expiry)
    else:
        stamp, sealed = (_stamp(row), value_form.sealed(row)) if row else (ABSENT, "")
        going_on = replace(draft, versionstamp=stamp, seen=sealed)
    return _form(
        visit,
        key,
        going_on,
        status=409,
        conflict=True,
        deleting=deleting,
        seen=value_display.entry(seen) if seen else None,
        seen_stamp=draft.versionstamp,
    )


def _form(visit: PageContext, key: bytes | None, draft: Draft, *, status: int = 200, **context: Any) -> Response:
    database, app, timeline = connected(visit)
    row = None if key is None else visit.store.row(key)
    now = _stamp(row) if row else ABSENT
    known = visit.live if visit.live else draft.versionstamp
    shown = {"conflict": False, "deleting": False, "seen": None, "seen_stamp": "", **context}
    return visit.page(
        "edit.html",
        status=status,
        **heading(visit, database, app, timeline),
        id=None if key is None else key.hex(),
        key=None if key is None else explorer.key_named(key),
        draft=draft,
        spellings=Spelling,
        there=value_display.entry(row) if row else None,
        stale=key is not None and known != now,
        **shown,
    )


def _stamp(row: StoredRow) -> str:
    return json_lines.stamp(row[3] or 0)


def _check(row: StoredRow | None) -> bytes | None:
    return bytes.fromhex(_stamp(row)) if row else None


def _path(visit: PageContext, page: str) -> str:
    return f"/databases/{visit.parameter('database_id')}/{page}"


def _entry(visit: PageContext, key: bytes) -> str:
    return f"{_path(visit, 'entry')}?key={key.hex()}"
