"""What commands can be about: several snapshots, a timeline's page and history, a part of a database's keys."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from changing_world import form
from dashboard_world import Visitor
from support import daemon, git, ok, provisioner, repository, shop

from provisioner.core.errors import NotConfirmed
from provisioner.core.model import App, Snapshot
from provisioner.operations import snapshots
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def kept(repo: Path) -> set[str]:
    return {item["id"] for item in json.loads(ok(repo, "database", "snapshot", "list", "--json"))}


def test_several_snapshots_are_deleted_by_ids_and_labels_or_none_is(repo: Path) -> None:
    for label in ("one", "two", "two", ""):
        ok(repo, "database", "snapshot", "create", "login", *(("--label", label) if label else ()))
    before = kept(repo)
    refused = provisioner(repo, "database", "snapshot", "delete", "one", "two", "--yes")
    assert (refused.returncode, "'two' means 2 snapshots" in refused.stderr, kept(repo)) == (3, True, before)
    refused = provisioner(repo, "database", "snapshot", "delete", "one", "no-such", "--yes")
    assert (refused.returncode, kept(repo)) == (3, before)
    by_id = next(
        item["id"] for item in json.loads(ok(repo, "database", "snapshot", "list", "--json")) if not item["label"]
    )
    planned = json.loads(ok(repo, "database", "snapshot", "delete", "one", by_id[:8], "--dry-run", "--json"))
    assert [item["action"] for item in planned] == ["delete-snapshot", "delete-snapshot"]
    gone = json.loads(ok(repo, "database", "snapshot", "delete", "one", by_id[:8], "--yes", "--json"))
    assert (len(gone), len(before - kept(repo))) == (2, 2)
    (left, _) = kept(repo)
    assert json.loads(ok(repo, "database", "snapshot", "delete", left, "--yes", "--json"))["id"] == left


def test_an_unknown_snapshot_is_named_outside_of_a_checkout(repo: Path, tmp_path: Path) -> None:
    refused = provisioner(tmp_path, "database", "snapshot", "delete", "no-such-one", "--yes")
    assert (refused.returncode, "no snapshot 'no-such-one'. List snapshots: " in refused.stderr) == (3, True), refused
    refused = provisioner(tmp_path, "database", "snapshot", "delete", "no-such-one", "--yes", "--app", "blog")
    assert (refused.returncode, "'blog'" in refused.stderr) == (3, True), refused


def test_snapshots_of_the_productions_of_two_apps_are_lost_by_the_names_of_both(
    repo: Path, tmp_path: Path, home: Path
) -> None:
    repository(tmp_path / "blog")
    ok(tmp_path / "blog", "init", "--no-hooks")
    for where in (repo, repo, tmp_path / "blog"):
        ok(where, "database", "snapshot", "create", "main")
    with Registry.open(Home(str(home))) as registry:
        every = [each for app in registry.apps() for each in _snapshots(registry, app)]
        words = {app.slug: snapshots.delete(registry, _snapshots(registry, app)).typed for app in registry.apps()}
        both = snapshots.delete(registry, every)
    assert words == {"blog": "blog", "shop": "shop"}
    for answer in ("blog", "shop", "shop blog"):
        with pytest.raises(NotConfirmed):
            both.answered(answer)
    both.answered("blog shop")


def _snapshots(registry: Registry, app: App) -> list[Snapshot]:
    return [each for database in registry.databases(app.id) for each in rows.snapshots(registry, database.id)]


def test_a_timeline_shows_its_history(repo: Path) -> None:
    assert "history" not in json.loads(ok(repo, "timeline", "show", "login", "--json"))
    ok(repo, "timeline", "protect", "login")
    shown = json.loads(ok(repo, "timeline", "show", "login", "--history", "--json"))["history"]
    events = [json.loads(line) for line in ok(repo, "events", "login", "--json").splitlines()]
    assert shown == events
    assert shown[-1]["type"] == "timeline.protect"
    assert "timeline.protect" in ok(repo, "timeline", "show", "login", "--history")


def test_the_dashboard_opens_at_the_page_of_a_target(repo: Path, home: Path) -> None:
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        identity = json.loads(ok(repo, "database", "show", "login", "--json"))["id"]
        for words, path in (
            (("login",), "/timelines/"),
            ((identity,), f"/databases/{identity}"),
            (("--app", "shop"), "/apps/shop"),
        ):
            link = ok(repo, "dashboard", *words, "--print")
            assert f"/login?next={path}" in link
            whole = urlsplit(link.strip())
            visitor = Visitor(f"{whole.scheme}://{whole.netloc}")
            following = form(visitor.get(f"/login?{whole.query}").text)["next"]
            answer = visitor.post("/login", {"secret": whole.fragment, "next": following})
            assert (answer.status, answer.location.startswith(path)) == (303, True)
        assert "/login#ptl_" in ok(repo, "dashboard", "--print")
        assert provisioner(repo, "dashboard", "nope", "--print").returncode == 3


def test_a_dump_has_only_the_keys_with_a_prefix(repo: Path) -> None:
    git(repo, "switch", "-q", "login")
    for key in ('["users", 1]', '["users"]', '["usersx", 1]', '["orders", 1]'):
        ok(repo, "kv", "set", key, "1")
    head, *entries, end = map(json.loads, ok(repo, "database", "dump", "@", "--prefix", '["users"]').splitlines())
    assert ([line["key"] for line in entries], head["prefix"]) == ([["users", 1]], ["users"])
    assert len(ok(repo, "database", "dump", "@").splitlines()) == 6
    ok(repo, "database", "dump", "@", "--prefix", '["users"]', "-o", "part")
    for yes in ((), ("--yes",)):  # a load that must not be is not asked about
        refused = provisioner(repo, "database", "load", "@", "part", "--replace", *yes)
        assert (refused.returncode, "the dump has only the keys with the prefix" in refused.stderr) == (2, True)
    printed = ok(repo, "database", "dump", "@", "--prefix", '["users"]', "--output", "-").splitlines()
    assert printed[1:] == (repo / "part").read_text().splitlines()[1:]
    refused = provisioner(repo, "database", "dump", "@", "--output", "-", "--json")
    assert (refused.returncode, "--json requires --output" in refused.stderr) == (2, True), refused
    assert not (repo / "-").exists()
    (repo / "cut").write_text((repo / "part").read_text().replace('{"end": 1}', '{"end": 2}'))
    stopped = provisioner(repo, "database", "load", "@", "cut", "--merge", "--yes")
    assert "; 1 entry, up to line 2, is loaded and stays. To continue" in stopped.stderr, stopped
    assert ok(repo, "database", "load", "@", "part", "--merge", "--yes").startswith("Loaded 1 entry into ")
    assert len(ok(repo, "kv", "list").splitlines()) == 4
    del end
