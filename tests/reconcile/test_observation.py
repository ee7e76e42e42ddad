"""A look at an app leaves out what nothing is to be done about: the plan is the same as if it had not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from database_rows import POSSIBLE
from hypothesis import given, settings
from hypothesis import strategies as st
from support import git, repository

from provisioner.core.connection import FileLocation
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import (
    App,
    Archived,
    Connected,
    Database,
    Hold,
    Instance,
    Share,
    Status,
    StepFailure,
    Timeline,
)
from provisioner.git.refs import read_branches
from provisioner.git.repository_id import claim
from provisioner.reconcile.branch_observation import observe_branches
from provisioner.reconcile.controller import look
from provisioner.reconcile.plan.actions import Action, Actual, Desired, OpenTimeline, Plan, RenameTimeline
from provisioner.reconcile.plan.planner import plan
from provisioner.registry.instances import deleted, mark_deleted
from provisioner.registry.shares import save_share, shares
from provisioner.registry.store import Registry
from provisioner.system.home import Home

NOW = 1_000_000_000
APP = App(AppId("app"), "shop", b"", b"main", 0, 60_000, 0)
NAMES = (b"main", b"a", b"a/b", b"zz", b"c")
INSTANCES = ("assigned", "second", "loose", "deleted")
ENOUGH = 2_000 if os.environ.get("KV_NIGHTLY") else 80

near = st.sampled_from([NOW - 100_000, NOW - 5, NOW, NOW + 5, NOW + 100_000])


@st.composite
def databases(draw: st.DrawFn, timeline_id: str) -> list[Database]:
    """Usually as they should be or put away, and then a bit different; at most one live on each instance."""
    status = draw(st.sampled_from([Status.CONNECTED, Status.CONNECTED, Status.ARCHIVED]))
    usual = [_database(timeline_id, number, slug, status) for number, slug in enumerate(("assigned", "second"))]
    usual += [
        _database(timeline_id, number, draw(st.sampled_from(INSTANCES)), Status.ARCHIVED)
        for number in range(2, 2 + draw(st.sampled_from([0, 0, 1, 2])))
    ]
    found = [draw(changed(item)) if draw(st.sampled_from([True, False, False])) else item for item in usual]
    found = found[: draw(st.sampled_from([len(found), len(found), 0, 1]))]
    live = [item.instance_id for item in found if item.live]
    return found if len(live) == len(set(live)) else found[:1]


def _database(timeline_id: str, number: int, instance: str, status: Status) -> Database:
    return Database(
        id=DatabaseId(f"{timeline_id}-{number}"),
        timeline_id=TimelineId(timeline_id),
        instance_id=InstanceId(instance),
        name=f"{timeline_id}-{number}",
        state=Archived(NOW - 70_000, NOW + 9_000) if status is Status.ARCHIVED else Connected(),
        created_at=0,
        connected_at=1,
    )


@st.composite
def changed(draw: st.DrawFn, item: Database) -> Database:
    """The same with one thing about it different."""
    match draw(st.sampled_from(["state", "state", "hold", "retry_at", "purge_at", "purge_at", "instance"])):
        case "state":
            return replace(item, state=draw(st.sampled_from(POSSIBLE))).kept_until(draw(st.none() | near))
        case "hold":
            return item.with_hold(draw(st.sampled_from(Hold)))
        case "retry_at":
            return item.with_failure(StepFailure("disk full", 1, draw(near)))
        case "purge_at":
            return item.kept_until(draw(st.none() | near))
        case _:
            return replace(item, instance_id=InstanceId(draw(st.sampled_from(INSTANCES))))


@st.composite
def timelines(draw: st.DrawFn, branch: bytes, production: bool, preview: bool) -> Timeline:
    number = f"{branch.hex()}-{production:d}{preview:d}"
    return Timeline(
        id=TimelineId(number),
        app_id=AppId("app"),
        branch=branch,
        production=production,
        revision=draw(st.sampled_from(["c1", "c1", "c2"])),
        created_at=0,
        gone_at=draw(st.sampled_from([None, None, None, NOW - 100_000, NOW - 5])),
        rename_mark="",
        preview=preview,
        protected=draw(st.sampled_from([False, False, False, True])),
        expire_ms=draw(st.sampled_from([None, None, None, 0, 1_000, 200_000])),
        active_at=draw(near),
    )


World = tuple[App, list[Timeline], list[Database], list[Share], set[bytes]]
"""An app, its rows in the registry, and the branches that its repository has."""


@st.composite
def worlds(draw: st.DrawFn) -> World:
    grace, expire = draw(st.sampled_from([0, 50_000])), draw(st.sampled_from([None, None, None, 3_000]))
    app = replace(APP, grace_ms=grace, expire_ms=expire)
    kinds = [(b"main", True, False)]
    kinds += [(name, False, False) for name in draw(st.sets(st.sampled_from(NAMES)))]
    kinds += [(name, False, True) for name in draw(st.sets(st.sampled_from([b"c1", b"c2"])))]
    found = [draw(timelines(*kind)) for kind in kinds if draw(st.sampled_from([True, True, True, False]))]
    held = [database for timeline in found for database in draw(databases(timeline.id))]
    live = [item for item in held if item.live and item.instance_id != "deleted"]
    used = []
    if live and draw(st.sampled_from([True, False, False])):
        database = draw(st.sampled_from(live))
        others = [item for item in found if item.id != database.timeline_id]
        used = [Share(item.id, database.instance_id, database.id, 0) for item in others[:2]]
    others = [item for item in found if item.of_branch]
    if held and others and draw(st.sampled_from([True, False, False])):  # a database that may be another branch's
        orphan, doubtful = draw(st.sampled_from(held)), draw(st.sampled_from(others))
        held = [item.with_hold(Hold.ORPHANED) if item is orphan else item for item in held]
        found = [replace(item, doubt=orphan.id) if item is doubtful else item for item in found]
    return app, found, held, used, draw(st.sets(st.sampled_from([*NAMES, b"new"])))


@dataclass(frozen=True)
class Bare:
    """A repository without reflogs, a commit of it, and an open registry with instances, of which one was deleted."""

    path: Path
    commit: str
    registry: Registry


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[Bare]:
    top = tmp_path_factory.mktemp("observed")
    source = repository(top / "source")
    git(top, "clone", "-q", "--bare", source, top / "bare.git")
    with Registry.open(Home(str(shared_home)), create=True) as registry:
        app = registry.save_app(replace(APP, git_dir=os.fsencode(top / "bare.git")), 0)
        claim(app.git_dir, app.id)
        for slug in INSTANCES:
            instance = Instance(InstanceId(slug), slug, "deno-kv", FileLocation(f"/srv/{slug}"), 0)
            registry.add_instance(instance)
            if slug != "loose":
                registry.assign(instance, app, 0)
            if slug == "deleted":
                mark_deleted(registry, instance, 0, NOW + 7, None)
        yield Bare(top / "bare.git", git(source, "rev-parse", "HEAD").stdout.strip(), registry)


def _set_branches(bare: Path, commit: str, names: set[bytes]) -> None:
    for path in sorted((bare / "refs/heads").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (bare / "packed-refs").write_bytes(
        b"".join(commit.encode() + b" refs/heads/" + name + b"\n" for name in sorted(names - {b"a"}))
    )
    if b"a" in names and b"a/b" not in names:
        (bare / "refs/heads/a").write_text(commit + "\n")


def _whole(registry: Registry, app: App, now: int) -> Plan:
    """The plan that is made of everything there is."""
    gone = {item.instance.id: item.purge_at for item in deleted(registry)}
    held = tuple(registry.databases(app.id))
    actual = Actual(tuple(registry.timelines(app.id)), held, tuple(shares(registry, app.id)))
    desired = Desired(app, read_branches(app.git_dir), tuple(registry.assigned(app.id)), deleted=gone)
    return plan(desired, actual, now)


class _Undone(Exception):  # noqa: N818 - what it is
    """The rows of an example are not to stay."""


@contextmanager
def _registered(bare: Bare, world: World) -> Iterator[App]:
    """The app, with these rows and branches for the block."""
    app, found, held, used, branches = world
    registry, app = bare.registry, replace(app, git_dir=os.fsencode(bare.path))
    _set_branches(bare.path, bare.commit, branches)
    with suppress(_Undone), registry.change():
        registry.save_app(app, 0)
        registry.save_timelines(replace(item, revision=item.revision.replace("c1", bare.commit)) for item in found)
        registry.save_databases(held)
        for share in used:
            save_share(registry, share)
        yield app
        raise _Undone


@settings(max_examples=ENOUGH)
@given(world=worlds())
def test_the_plan_of_what_was_looked_at_is_that_of_everything(bare: Bare, world: World) -> None:
    with _registered(bare, world) as app:
        whole, seen = _whole(bare.registry, app, NOW), look(bare.registry, app, NOW)
    assert sorted(map(repr, seen.actions)) == sorted(map(repr, whole.actions))
    assert seen.next_at == whole.next_at


def _branch_of(action: Action) -> bytes | None:
    """The branch that an action is about; None for a preview's."""
    if isinstance(action, OpenTimeline):
        return action.branch
    timeline = action.old if isinstance(action, RenameTimeline) else action.timeline
    return None if timeline.preview else timeline.branch


def test_the_plan_for_some_branches_is_what_the_plan_of_everything_has_of_them(bare: Bare) -> None:
    answered, acted = [], []

    @settings(max_examples=2 * ENOUGH)
    @given(world=worlds(), names=st.sets(st.sampled_from([*NAMES, b"new"]), min_size=1, max_size=3))
    def compare(world: World, names: set[bytes]) -> None:
        with _registered(bare, world) as app:
            whole, seen = _whole(bare.registry, app, NOW), observe_branches(bare.registry, app, NOW, names)
        answered.append(seen is not None)
        if seen is None:
            return
        some = plan(seen.desired, seen.actual, NOW)
        acted.append(bool(some.actions))
        theirs = [each for each in whole.actions if _branch_of(each) in names]
        assert sorted(map(repr, some.actions)) == sorted(map(repr, theirs))
        assert some.next_at is None or (whole.next_at is not None and whole.next_at <= some.next_at)

    compare()
    print(f"{sum(answered)} of {len(answered)} without the whole, {sum(acted)} with something to do")
    assert sum(answered) * 4 > len(answered)
    assert sum(acted) * 4 > sum(answered)
