"""What a command prints of its credentials is masked wherever its output and its errors go."""

from __future__ import annotations

import base64
import html
import json
import re
import sqlite3
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from connect_world import token
from dashboard_world import Visitor, visited
from pg_server import PgServer
from pg_world import environment
from support import bare, commit, daemon, git, ok, provisioner, repository

SECRET = "pä/ss w&rd\"<x>'$1+\\"
PRINTING = """
import base64, html, json, os, shlex, sys, time
from urllib.parse import quote, quote_plus
for name in ("DATABASE_URL", "PGPASSWORD", "MAIN_DATABASE_URL", "PASS", "REPLICA"):
    value = os.environ[name]
    for text in (
        value, quote(value), quote(value, safe=""), quote_plus(value), json.dumps(value), json.dumps([value], ensure_ascii=False),
        shlex.quote(value), repr(value), html.escape(value), base64.b64encode(value.encode()).decode(),
        base64.b64encode(b"user:" + value.encode()).decode(), base64.urlsafe_b64encode(value.encode()).decode(),
        value.encode().hex(), value.encode().hex().upper(),
    ):
        print("out", text)
        print("err", text, file=sys.stderr)
for piece in os.environ["PASS"]:  # in writes of its own
    os.write(1, piece.encode())
    time.sleep(0.002)
os.write(1, b"\\n")
sys.exit("cannot log in with " + os.environ["DATABASE_URL"] + " and " + os.environ["PASS"])
"""


def written(value: str) -> list[str]:
    """Some of the forms in which a value may be printed."""
    encoded = value.encode()
    aligned = [base64.b64encode(b"user:" + encoded).decode()[8:-4], base64.b64encode(encoded).decode()[:-4]]
    forms = [value, quote(value), quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], html.escape(value)]
    return [*forms, repr(value)[1:-1], *aligned, encoded.hex(), encoded.hex().upper()]


def found_in(text: str, *secrets: str) -> list[str]:
    return [form for secret in secrets for form in written(secret) if form in text]


def pages_of(visitor: Visitor) -> list[str]:
    """Everything that can be read by following links from the app's page."""
    seen: dict[str, str] = {}
    waiting = ["/activity", "/apps/shop"]
    while waiting:
        path = waiting.pop()
        if path not in seen and not path.endswith("/variables"):
            seen[path] = html.unescape(visitor.get(path).text)
            waiting += re.findall(r'href="(/(?:timelines|apps|databases)/[^"#?]+)"', seen[path])
    return list(seen.values())


def everything(home: Path) -> str:
    """All text in the registry, and all logs."""
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        tables = [name for (name,) in registry.execute("select name from sqlite_schema where type = 'table'")]
        kept = [
            str(row)
            for name in tables
            if name not in ("variable", "instance")
            for row in registry.execute(f"select * from {name}")
        ]
    return "\n".join([*kept, *(path.read_text("utf-8", "replace") for path in (home / "log").rglob("*.log"))])


@pytest.mark.parametrize("who", ["hook", "daemon"])
def test_a_pre_deploy_command_that_prints_its_credentials_tells_nobody(
    tmp_path: Path, home: Path, pg: PgServer, who: str
) -> None:
    origin = repository(tmp_path / "origin")
    hub = bare(tmp_path / "hub.git", origin)
    ok(hub, "instance", "add", "main", "--engine", "postgres", "--url", pg.url())
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    ok(hub, "unassign", "default", "--yes")
    ok(hub, "assign", "main", "shop")
    ok(hub, "var", "set", "--secret", f"PASS={SECRET}")
    ok(hub, "var", "set", "REPLICA=mysql://reader:rep%2Flica-word@db.example/x")  # not called a secret
    given = environment(hub, "main")
    (origin / "migrate.py").write_text(PRINTING)
    git(origin, "add", "migrate.py")
    ok(hub, "app", "set", "--pre-deploy", f"[ ! -e migrate.py ] || {sys.executable} migrate.py")
    with daemon(home) if who == "daemon" else nullcontext() as running:
        commit(origin, "second")
        pushed = git(origin, "push", "hub", "main").stderr
        said = running.log.read_text() if running else ""
    secrets = (given["PGPASSWORD"], SECRET, "rep%2Flica-word", "rep/lica-word")
    assert "cannot log in with postgresql://" in pushed  # who pushes reads what went wrong
    shown = [ok(hub, *words) for words in (("timeline", "show", "main"), ("timeline", "log", "main"), ("status",))]
    refused = provisioner(hub, "exec", "--", "true").stderr
    with visited(home) as (server, _):
        reader = Visitor(server.base)
        assert reader.log_in(token(hub, "--admin", "--read-only")).status == 303
        pages = pages_of(reader)
    for where, text in {
        "the pusher": pushed,
        "the daemon's log": said,
        "the command line": "".join(shown),
        "exec": refused,
        "the home": everything(home),
        "the dashboard": "".join(pages),
    }.items():
        assert found_in(text, *secrets) == [], where
