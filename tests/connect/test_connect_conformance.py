"""Real Deno does the same through the server as on a file of its own: results, order, cursors, and the words of errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from connect_world import Access, Server, access, deno, serving
from paths import SUPPORT
from support import shop

PROGRAM = SUPPORT / "connect_conformance.ts"
PARTS = ("values", "keys", "reads", "mutations", "sums", "limits", "watches", "closing")


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[Server]:
    shop(tmp_path / "shop", "login")
    with serving(home) as server:
        yield server


@pytest.fixture
def login(server: Server, tmp_path: Path) -> Access:
    return access(tmp_path / "shop", "login")


# Deno says this before the server's text, and has one class for all of it.
SAID = re.compile(r"""error: "Error" "KV Connect failed to call '.*' \(status=400 Bad Request\): (.*)""")


def lines(out: str) -> dict[str, str]:
    said = [json.loads(line) for line in out.splitlines()]
    return {line["name"]: line.get("ok") or f"error: {line['error']}" for line in said}


def test_every_operation_does_over_the_server_what_it_does_on_a_file(
    server: Server, login: Access, tmp_path: Path
) -> None:
    wanted = lines(deno(PROGRAM, str(tmp_path / "theirs.sqlite3"), *PARTS))
    found = lines(deno(PROGRAM, login.url, *PARTS, add=login.variables))
    by_the_server = sum(bool(SAID.match(text)) for text in found.values())
    found = {name: SAID.sub(r'error: "TypeError" "\1', text) for name, text in found.items()}
    different = {name: (found.get(name), wanted[name]) for name in wanted if found.get(name) != wanted[name]}
    refused = sum("error: " in text for text in wanted.values())
    print(f"{len(wanted)} operations, {refused} of them refused, {by_the_server} by the server")
    assert not different
    assert found.keys() == wanted.keys()
    assert len(wanted) > 1400


def test_an_expiry_comes_and_is_kept_only_by_what_set_it(server: Server, login: Access) -> None:
    """A local Deno looks every minute only; the server when it is due."""
    found = lines(deno(PROGRAM, login.url, "expiry", add=login.variables))
    kept = found.pop("what did not expire")
    assert '"kept"' in kept
    assert '"summed"' in kept
    assert '"soon"' not in kept
    assert "value: null" in found["an expiry comes"]


def test_what_deno_refuses_by_itself_never_reaches_the_server(server: Server, login: Access) -> None:
    """Its limits are the same here, so that nothing of it is refused by ours in other words."""
    deno(PROGRAM, login.url, "limits", add=login.variables)
    refused = [line for line in server.log.read_text().splitlines() if "status=4" in line]
    assert not refused


def test_queues_are_refused_by_deno_itself(server: Server, login: Access, tmp_path: Path) -> None:
    program = tmp_path / "queue.ts"
    program.write_text(
        "const kv = await Deno.openKv(Deno.args[0]);"
        "try { await kv.enqueue(1); } catch (error) { console.log((error as Error).message); } kv.close();"
    )
    assert "queue" in deno(program, login.url, add=login.variables).lower()
