"""A shop whose dashboard is visited: forms that are sent, the notes that come of them, and the buttons beside those."""

from __future__ import annotations

import html
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from dashboard_world import Answer, Visitor
from support import database_of, git, got, ok, put

WHO = "login link"
HOSTILE = "<b>x</b>\u202e\"'{{7*7}}"


def sent(visitor: Visitor, path: str, **fields: str) -> Answer:
    return visitor.post(path, {"csrf": visitor.csrf, **fields})


def done(visitor: Visitor, path: str, **fields: str) -> str:
    """What the note says of a change that is made."""
    answer = sent(visitor, path, **fields)
    assert answer.status == 303, (answer.status, answer.text)
    return visitor.get(answer.location).text.partition("<h1")[0]


def undone(visitor: Visitor, note: str, **fields: str) -> str:
    """What the note says after the button beside another one was pressed."""
    form = re.search(r'<div class="note.*?action="([^"]+)".*?</form>', note, re.DOTALL)
    assert form is not None, note
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[0]))
    given = {name: html.unescape(value) for name, value in hidden.items() if name != "csrf"}
    return done(visitor, html.unescape(form[1]), **given, **fields)


def wrong(answer: Answer) -> bool:
    return answer.status in (400, 409)


def refusal(visitor: Visitor, answer: Answer) -> str:
    """Why a change was not made, as the page says that it leads back to."""
    assert answer.status == 303
    found = re.search(r'<div class="note wrong".*?</div>', visitor.get(answer.location).text, re.DOTALL)
    assert found is not None
    return html.unescape(found[0])


def plain(answer: Answer) -> str:
    return html.unescape(answer.text)


def made(repo: Path, branch: str) -> tuple[dict[str, Any], str, str]:
    """A new branch whose database is marked with its name: that, its page, and the page of its timeline."""
    git(repo, "branch", branch)
    ok(repo, "reconcile")
    database = database_of(repo, f"git-branch/{branch}")
    put(database["path"], branch)
    return database, f"/databases/{database['id']}", timeline_page(repo, branch)


def timeline_page(repo: Path, branch: str, preview: int = 0) -> str:
    with closing(sqlite3.connect(repo.parent / "home" / "registry.db")) as registry:
        (found,) = registry.execute(
            "select id from timeline where branch = ? and preview = ?", (branch.encode(), preview)
        ).fetchone()
    return f"/timelines/{found}"


def held(repo: Path, branch: str) -> str:
    return got(database_of(repo, f"git-branch/{branch}")["path"])


def last(home: Path, action: str) -> str:
    """Who is noted for the last event of a kind."""
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return str(
            registry.execute("select cause from event where action = ? order by id desc", (action,)).fetchone()[0]
        )
