"""A database is in one of the states that exist: nothing leads to another one, and the registry refuses another one."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from database_rows import POSSIBLE, STATE
from hypothesis import given
from hypothesis import strategies as st
from support import git, provisioner, shop

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.core.model import (
    Database,
    DatabaseState,
    Hold,
    ImpossibleState,
    Intent,
    Provisioning,
    Purged,
    Status,
    StepFailure,
    state_of,
)
from provisioner.registry.schema.rows import DATABASE
from provisioner.registry.store import Registry
from provisioner.system.home import Home

NEW = Database(
    DatabaseId("d"),
    TimelineId("t"),
    InstanceId("i"),
    "shop--login",
    Provisioning(Intent.PROVISION),
    created_at=1,
    connected_at=None,
)
FAILURE = StepFailure("disk full", 2, 9)
CHANGES: dict[str, Callable[[Database], Database]] = {
    **{intent: partial(Database.with_intent, intent=intent) for intent in Intent},
    **{f"hold {hold}": partial(Database.with_hold, hold=hold) for hold in (None, *Hold)},
    "fail": lambda item: item.failed(FAILURE),
    "note": lambda item: item.with_failure(FAILURE),
    "forgive": lambda item: item.with_failure(None),
    "retry": lambda item: item.retried_at_once(),
    "connect": lambda item: item.connected(5),
    "put away": lambda item: item.archived(6, 7),
    "keep": lambda item: item.kept_until(None),
    "delete": lambda item: item.purged(),
}


def stored(database: Database) -> dict[str, object]:
    return dict(zip(DATABASE.names, DATABASE.values(database), strict=True))


def test_the_states_are_those_of_the_design() -> None:
    found: dict[str, list[str | None]] = {}
    for state in POSSIBLE:
        found.setdefault(state.status, []).append(state.intent)
    assert found == {
        "provisioning": ["provision", "archive", "scrub"],
        "connected": [None, "provision", "archive", "replace"],
        "error": [None, "provision", "archive", "replace", "scrub"],
        "archived": [None, "archive", "recover", "purge"],
        "purged": [None],
    }


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=30))
def test_whatever_is_done_the_registry_can_hold_it(changes: list[str]) -> None:
    database = NEW
    for change in changes:
        before = database
        try:
            database = CHANGES[change](database)
        except ImpossibleState:
            assert change in set(Intent), "only a step can be one that does not follow"
            database = before
        assert DATABASE.read(DATABASE.values(database)) == database
        assert (database.hold, database.error) == (None, None) or not isinstance(database.state, Purged)


def test_each_state_can_be_reached() -> None:
    reached, left = set[DatabaseState](), [NEW]
    while left:
        database = left.pop()
        if database.state in reached:
            continue
        reached.add(database.state)
        for change in CHANGES.values():
            try:
                left.append(change(database))
            except ImpossibleState:
                continue
    assert {(state.status, state.intent) for state in reached} == {(state.status, state.intent) for state in POSSIBLE}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def test_a_row_that_fits_no_state_is_an_error_that_says_so(repo: Path, home: Path) -> None:
    known = {(state.status, state.intent) for state in POSSIBLE}
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        found = registry.databases(app.id)[0]
        change = "update database set status = ?, intent = ?, error = ?, archived_at = ? where id = ?"
        for status, intent in product(Status, (None, *Intent)):
            registry.write(change, status, intent, "disk full", 1, found.id)
            if (status, intent) in known:
                row = registry.database(found.id)
                assert row is not None
                assert (row.status, row.intent) == (status, intent)
                continue
            with pytest.raises(
                StorageFailed, match=f"the registry is corrupt: database {found.id} has status {status}, "
            ):
                registry.database(found.id)
        for status, missing in ((Status.ERROR, "no error"), (Status.ARCHIVED, "no time of its archive")):
            registry.write(change, status, None, None, None, found.id)
            with pytest.raises(StorageFailed, match=missing):
                registry.database(found.id)
    told = provisioner(repo, "status")
    assert told.returncode != 0
    assert "no time of its archive" in told.stderr


NAMES = ("login", "cart")
COMMANDS = {
    "reconcile": ("provision.intended", "provision.renamed", "archive.intended", "rename.begun"),
    "database fix --all": ("provision.intended",),
    "database archive {0} --yes": ("archive.intended", "archive.moved"),
    "database recover {0}": ("recover.intended", "recover.moved"),
    "database purge {0} --yes": ("purge.intended", "purge.moved"),
    "database reset {0} --yes": ("replace.intended", "replace.ready", "replace.moved"),
    "database fork {0} {1} --yes": ("replace.built", "replace.kept"),
    "database share {0} {1}": ("archive.intended",),
    "database unshare {1} --yes": ("provision.intended", "recover.intended"),
    "timeline protect {0}": (),
    "timeline unprotect {0}": (),
}
GIT = ("branch {0}", "branch {0}", "branch -D {0}", "branch -M {0} {1}", "commit -q --allow-empty -m more")
SEEDS = range(1, 40 if os.environ.get("KV_NIGHTLY") else 2)
STEPS = 120 if os.environ.get("KV_NIGHTLY") else 8


def rows(home: Path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"select {', '.join(STATE)} from database")]


Step = tuple[str, str, str]
"""What git does, what the command does after it, and the point at which that is killed: empty for none."""
FIRST: list[Step] = [
    ("branch cart", "reconcile", "provision.intended"),
    ("", "reconcile", ""),
    ("", "database reset cart --yes", "replace.ready"),
    ("", "database archive cart --yes", "archive.intended"),
    ("", "database archive login --yes", ""),
    ("", "database recover login", "recover.intended"),
    ("", "database archive login --yes", ""),
    ("", "database purge login --yes", "purge.intended"),
]


def steps(chosen: random.Random) -> Iterator[Step]:
    yield from FIRST
    for _ in range(STEPS):
        names = chosen.sample(NAMES, 2)
        change, words, points = "", "reconcile", COMMANDS["reconcile"]
        if chosen.random() < 0.5:
            change = chosen.choice(GIT)
        else:
            words, points = chosen.choice(list(COMMANDS.items()))
        point = chosen.choice(points) if points and chosen.random() < 0.6 else ""
        yield change.format(*names), words.format(*names), point


@pytest.mark.parametrize("seed", SEEDS)
def test_random_histories_lead_to_these_states_only(repo: Path, home: Path, seed: int) -> None:
    """With commands that are killed between recording an intent and its result."""
    seen = set[tuple[object, object]]()
    for change, words, point in steps(random.Random(seed)):
        if change:
            git(repo, *change.split(" "), check=False)
        provisioner(repo, *words.split(" "), add={"PROVISIONER_FAULT": point} if point else {})
        for row in rows(home):
            state = state_of(
                Status(str(row["status"])),
                Intent(str(row["intent"])) if row["intent"] else None,
                *(row["error"], row["attempts"], row["retry_at"]),  # type: ignore[arg-type]
                Hold(str(row["hold"])) if row["hold"] else None,
                *(row["archived_at"], row["purge_at"]),  # type: ignore[arg-type]
            )
            assert {name: getattr(Database(*_ids(), state, 0, 0), name) for name in STATE} == row, "nothing was dropped"
            seen.add((row["status"], row["intent"]))
    intents = {intent for _, intent in seen}
    assert {"provision", "replace", "archive", "recover", "purge"} <= intents
    assert {"provisioning", "connected", "archived", "purged"} <= {status for status, _ in seen}
    provisioner(repo, "database", "fix", "--all")
    provisioner(repo, "reconcile")
    assert {row["intent"] for row in rows(home) if row["error"] is None} == {None}, (
        "what was cut off is finished or undone"
    )


def _ids() -> tuple[DatabaseId, TimelineId, InstanceId, str]:
    return NEW.id, NEW.timeline_id, NEW.instance_id, NEW.name
