"""The plan: values in, values out."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import pytest
from database_rows import having

from provisioner.core.connection import FileLocation
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Connected, Database, Hold, Instance, Intent, Share, Status, Timeline
from provisioner.reconcile.plan import planner
from provisioner.reconcile.plan.actions import (
    Actual,
    Archive,
    ClearHold,
    Create,
    Desired,
    Ensure,
    Fail,
    OpenTimeline,
    Orphan,
    Purge,
    Rename,
    RenameTimeline,
    Unshare,
    UpdateTimeline,
)
from provisioner.reconcile.plan.planner import plan

NOW = 1_000_000
APP = App(AppId("app"), "shop", b"/srv/shop.git", b"main", 10_000, 60_000, 0)
STORE = Instance(InstanceId("store"), "default", "deno-kv", FileLocation("/srv/databases"), 0)
FEATURE = Timeline(TimelineId("t1"), AppId("app"), b"feature", False, "c1", 0, None, "")
PRODUCTION = Timeline(TimelineId("t0"), AppId("app"), b"main", True, "c1", 0, None, "")
CONNECTED = Database(
    DatabaseId("d1"),
    TimelineId("t1"),
    InstanceId("store"),
    "shop--feature-1",
    Connected(),
    0,
    1,
)
PRODUCTION_DATABASE = replace(CONNECTED, id=DatabaseId("d0"), timeline_id=TimelineId("t0"), name="shop-production-1")
WAITED = {DatabaseId("d1"): APP.retention_ms}  # by the clock that only runs forward
ARCHIVED = having(CONNECTED, status=Status.ARCHIVED, archived_at=NOW - 5_000, purge_at=NOW + 55_000)


def kinds(desired: Desired, actual: Actual, **options: bool) -> list[type]:
    return [type(action) for action in plan(desired, actual, NOW, **options).actions]


def wants(*branches: bytes, renames: tuple[Rename, ...] = ()) -> Desired:
    return Desired(APP, dict.fromkeys(branches, "c1"), (STORE,), renames)


def test_nothing_is_done_where_everything_is_as_the_refs_say() -> None:
    actual = Actual((PRODUCTION, FEATURE), (PRODUCTION_DATABASE, CONNECTED))
    assert plan(wants(b"main", b"feature"), actual, NOW).actions == ()


class _CountedSet(set[bytes]):
    """A set that counts the elements which its unions copy."""

    copied = 0

    def __or__(self, other: Set[Any]) -> set[Any]:
        _CountedSet.copied += len(self) + len(other)
        return set.__or__(self, other)


def test_planning_copies_no_set_of_branches_for_each_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "set", _CountedSet, raising=False)
    branches = [b"branch-%d" % number for number in range(1_000)]
    timelines = [replace(FEATURE, id=TimelineId(f"t-{branch!r}"), branch=branch) for branch in branches]
    databases = [replace(CONNECTED, id=DatabaseId(f"d-{item.id}"), timeline_id=item.id) for item in timelines]
    _CountedSet.copied = 0
    found = plan(wants(*branches, b"new"), Actual(tuple(timelines), tuple(databases)), NOW)
    assert [type(action) for action in found.actions] == [OpenTimeline]
    assert _CountedSet.copied <= 2 * len(branches)


def test_a_new_branch_is_opened_and_a_new_assignment_makes_a_database() -> None:
    assert kinds(wants(b"main"), Actual((), ())) == [OpenTimeline]
    assert kinds(wants(b"feature"), Actual((FEATURE,), ())) == [Create]


DAY = 86_400_000
BORN = replace(FEATURE, active_at=NOW - DAY)


def test_a_timeline_whose_time_is_over_is_archived_and_comes_back_with_a_push() -> None:
    for app, timeline in ((APP, replace(BORN, expire_ms=DAY)), (replace(APP, expire_ms=DAY), BORN)):
        desired = replace(wants(b"feature"), app=app)
        (archive,) = plan(desired, Actual((timeline,), (CONNECTED,)), NOW).actions
        assert isinstance(archive, Archive)
        assert archive.purge_at == NOW + APP.retention_ms
        assert plan(desired, Actual((timeline,), (ARCHIVED,)), NOW).actions == ()
        pushed = replace(desired, branches={b"feature": "c2"})
        assert kinds(pushed, Actual((timeline,), (ARCHIVED,))) == [UpdateTimeline, Ensure]
        assert kinds(pushed, Actual((timeline,), ())) == [UpdateTimeline, Create]
        assert kinds(desired, Actual((timeline,), ())) == [], "it is not made anew, empty"


def test_what_has_not_expired_says_when_it_will() -> None:
    found = plan(wants(b"feature"), Actual((replace(BORN, expire_ms=DAY + 7),), (CONNECTED,)), NOW)
    assert (found.actions, found.next_at) == ((), NOW + 7)


def test_production_the_protected_and_those_that_say_never_do_not_expire() -> None:
    app = replace(APP, expire_ms=DAY)
    for timeline in (
        replace(PRODUCTION, active_at=NOW - DAY),
        replace(BORN, protected=True),
        replace(BORN, expire_ms=0),
    ):
        database = replace(CONNECTED, timeline_id=timeline.id)
        desired = replace(wants(timeline.branch), app=app)
        assert plan(desired, Actual((timeline,), (database,)), NOW).actions == ()


def test_the_database_of_a_protected_branch_that_is_gone_stays() -> None:
    gone = replace(FEATURE, gone_at=NOW - DAY, protected=True)
    assert plan(wants(), Actual((gone,), (CONNECTED,)), NOW).actions == ()
    failed = having(CONNECTED, status=Status.ERROR, error="disk full")
    assert kinds(wants(), Actual((gone,), (failed,))) == [Ensure]
    assert kinds(wants(), Actual((gone,), (having(ARCHIVED, purge_at=NOW - 1),))) == []


def test_nothing_takes_the_place_of_a_protected_timeline_by_a_rename() -> None:
    other = replace(FEATURE, id=TimelineId("t2"), branch=b"other", protected=True)
    others = replace(CONNECTED, id=DatabaseId("d2"), timeline_id=TimelineId("t2"), name="shop--other-1")
    actual = Actual((FEATURE, other), (CONNECTED, others))
    renamed = wants(b"other", renames=(Rename(b"feature", b"other", "m"),))
    assert kinds(renamed, actual) == [UpdateTimeline], "the old name's database waits for its grace"
    swapped = wants(
        b"other", b"feature", renames=(Rename(b"feature", b"other", "m"), Rename(b"other", b"feature", "n"))
    )
    assert kinds(swapped, actual) == [RenameTimeline, RenameTimeline]


def test_a_preview_stays_until_its_time_is_over_or_it_is_deleted() -> None:
    preview = replace(BORN, branch=b"c1", preview=True, expire_ms=DAY + 7)
    found = plan(wants(), Actual((preview,), (CONNECTED,)), NOW)
    assert (found.actions, found.next_at) == ((), NOW + 7)
    assert kinds(wants(), Actual((preview,), ())) == [Create]
    for ended in (replace(preview, expire_ms=DAY), replace(preview, gone_at=NOW)):
        assert kinds(wants(), Actual((ended,), (CONNECTED,))) == [Archive]
        assert kinds(wants(), Actual((ended,), (having(ARCHIVED, purge_at=NOW),), waited=WAITED)) == [Purge]


def test_what_failed_is_tried_again_also_while_its_branch_is_gone_for_a_moment() -> None:
    failed = having(CONNECTED, status=Status.ERROR, error="disk full")
    assert kinds(wants(), Actual((replace(FEATURE, gone_at=NOW),), (failed,))) == [Ensure]


def test_a_gone_branch_waits_for_its_grace_and_is_then_archived() -> None:
    first = plan(wants(), Actual((FEATURE,), (CONNECTED,)), NOW)
    assert [type(action) for action in first.actions] == [UpdateTimeline]
    assert first.next_at == NOW + APP.grace_ms
    gone = replace(FEATURE, gone_at=NOW - APP.grace_ms)
    (archive,) = plan(wants(), Actual((gone,), (CONNECTED,)), NOW).actions
    assert isinstance(archive, Archive)
    assert archive.purge_at == NOW + APP.retention_ms


def test_a_branch_that_is_back_within_its_grace_is_left_alone() -> None:
    gone = replace(FEATURE, gone_at=NOW - 1)
    (note,) = plan(wants(b"feature"), Actual((gone,), (CONNECTED,)), NOW).actions
    assert isinstance(note, UpdateTimeline)
    assert note.gone_at is None


def test_a_branch_that_lost_its_databases_in_doubt_is_gone_when_git_has_it_no_longer() -> None:
    orphan = ARCHIVED.with_hold(Hold.ORPHANED)
    (left,) = plan(wants(), Actual((FEATURE,), (orphan,)), NOW).actions
    assert isinstance(left, UpdateTimeline)
    assert left.gone_at == NOW
    assert kinds(wants(), Actual((replace(FEATURE, gone_at=NOW),), (orphan,))) == []


def test_a_branch_that_is_back_gets_the_database_that_was_archived_last() -> None:
    older = having(ARCHIVED, id=DatabaseId("older"), archived_at=NOW - 9_000)
    (ensure,) = plan(wants(b"feature"), Actual((FEATURE,), (older, ARCHIVED)), NOW).actions
    assert isinstance(ensure, Ensure)
    assert ensure.database is ARCHIVED


def test_after_the_retention_time_the_old_database_is_purged_and_a_new_one_made() -> None:
    over = having(ARCHIVED, purge_at=NOW)
    assert kinds(wants(), Actual((FEATURE,), (over,), waited=WAITED)) == [Purge]
    assert kinds(wants(b"feature"), Actual((FEATURE,), (over,), waited=WAITED)) == [Create, Purge]


def test_what_is_over_by_the_wall_clock_alone_is_kept_and_comes_back_with_its_branch() -> None:
    over = having(ARCHIVED, purge_at=NOW - 100)
    for waited, left in (({}, APP.retention_ms), ({over.id: APP.retention_ms - 7}, 7)):
        found = plan(wants(), Actual((FEATURE,), (over,), waited=waited), NOW)
        assert (found.actions, found.next_at) == ((), NOW + left)
        assert kinds(wants(b"feature"), Actual((FEATURE,), (over,), waited=waited)) == [Ensure]


def test_production_is_never_archived_because_its_ref_vanished() -> None:
    gone = replace(PRODUCTION, gone_at=NOW - 10 * APP.grace_ms)
    (fail,) = plan(wants(b"feature"), Actual((gone, FEATURE), (PRODUCTION_DATABASE, CONNECTED)), NOW).actions
    assert isinstance(fail, Fail)
    broken = having(PRODUCTION_DATABASE, status=Status.ERROR, error=fail.reason)
    assert kinds(wants(b"feature"), Actual((gone, FEATURE), (broken, CONNECTED))) == []
    assert kinds(wants(b"main"), Actual((gone,), (broken,))) == [UpdateTimeline, Ensure]


def test_a_rename_carries_the_database_along() -> None:
    desired = wants(b"new", renames=(Rename(b"feature", b"new", "m"),))
    (follow,) = plan(desired, Actual((FEATURE,), (CONNECTED,)), NOW).actions
    assert isinstance(follow, RenameTimeline)
    assert follow.databases == (CONNECTED,)


def test_a_rename_over_a_branch_first_archives_what_is_replaced() -> None:
    other = replace(FEATURE, id=TimelineId("t2"), branch=b"new")
    replaced = replace(CONNECTED, id=DatabaseId("d2"), timeline_id=TimelineId("t2"), name="shop--new-1")
    desired = wants(b"new", renames=(Rename(b"feature", b"new", "m"),))
    (orphan,) = plan(desired, Actual((FEATURE, other), (CONNECTED, replaced)), NOW).actions
    assert isinstance(orphan, Orphan)
    orphaned = having(replaced, hold=Hold.ORPHANED)
    (archive,) = plan(desired, Actual((FEATURE, other), (CONNECTED, orphaned)), NOW).actions
    assert isinstance(archive, Archive)
    assert archive.database is orphaned


def test_production_neither_comes_nor_goes_by_a_rename() -> None:
    onto = wants(b"main", renames=(Rename(b"feature", b"main", "m"),))
    actual = Actual((PRODUCTION, FEATURE), (PRODUCTION_DATABASE, CONNECTED))
    assert kinds(onto, actual) == [UpdateTimeline]
    away = wants(b"feature", b"new", renames=(Rename(b"main", b"new", "m"),))
    assert kinds(away, actual) == [UpdateTimeline, OpenTimeline]


def test_what_a_person_said_outranks_the_refs() -> None:
    held = having(ARCHIVED, hold=Hold.ARCHIVED, purge_at=None)
    assert kinds(wants(b"feature"), Actual((FEATURE,), (held,))) == []
    kept = having(CONNECTED, hold=Hold.CONNECTED)
    gone = replace(FEATURE, gone_at=0)
    assert kinds(wants(), Actual((gone,), (kept,))) == []
    assert kinds(wants(b"feature"), Actual((FEATURE,), (kept,))) == [ClearHold]


def test_a_failure_is_tried_again_when_its_time_has_come_or_a_person_asks() -> None:
    failed = having(CONNECTED, status=Status.ERROR, error="disk full", attempts=2, retry_at=NOW + 500)
    waiting = plan(wants(b"feature"), Actual((FEATURE,), (failed,)), NOW)
    assert waiting.actions == ()
    assert waiting.next_at == NOW + 500
    assert kinds(wants(b"feature"), Actual((FEATURE,), (failed,)), retry=True) == [Ensure]


def test_a_step_that_was_cut_off_is_finished_or_undone() -> None:
    half = having(CONNECTED, status=Status.PROVISIONING, intent=Intent.PROVISION, connected_at=None)
    assert kinds(wants(b"feature"), Actual((FEATURE,), (half,))) == [Ensure]
    leaving = having(CONNECTED, intent=Intent.ARCHIVE)
    assert kinds(wants(b"feature"), Actual((FEATURE,), (leaving,))) == [Ensure]
    coming = having(ARCHIVED, intent=Intent.RECOVER)
    assert kinds(wants(), Actual((FEATURE,), (coming,))) == [Archive]
    going = having(ARCHIVED, intent=Intent.PURGE)
    assert kinds(wants(), Actual((FEATURE,), (going,))) == [Purge]


def test_an_unassigned_database_is_archived_at_once_and_kept() -> None:
    desired = Desired(APP, {b"feature": "c1"}, ())
    (archive,) = plan(desired, Actual((FEATURE,), (CONNECTED,)), NOW).actions
    assert isinstance(archive, Archive)
    assert archive.purge_at is None


OWNER = replace(FEATURE, id=TimelineId("t2"), branch=b"owner")
OWNED = replace(CONNECTED, id=DatabaseId("d2"), timeline_id=TimelineId("t2"), name="shop--owner-1")
SHARE = Share(TimelineId("t1"), InstanceId("store"), DatabaseId("d2"), 0)


def test_a_timeline_that_shares_has_its_own_database_put_aside_and_gets_no_other() -> None:
    both = wants(b"feature", b"owner")
    (archive,) = plan(both, Actual((FEATURE, OWNER), (CONNECTED, OWNED), (SHARE,)), NOW).actions
    assert isinstance(archive, Archive)
    assert (archive.database, archive.purge_at) == (CONNECTED, None)
    aside = having(ARCHIVED, purge_at=None)
    assert kinds(both, Actual((FEATURE, OWNER), (aside, OWNED), (SHARE,))) == []
    assert kinds(both, Actual((FEATURE, OWNER), (OWNED,), (SHARE,))) == []
    assert kinds(both, Actual((FEATURE, OWNER), (aside, OWNED))) == [Ensure]


def test_a_shared_database_stays_when_its_branch_is_gone_and_goes_with_the_last_who_shares() -> None:
    gone = replace(OWNER, gone_at=0)
    aside = having(ARCHIVED, purge_at=None)
    assert kinds(wants(b"feature"), Actual((FEATURE, gone), (aside, OWNED), (SHARE,))) == []
    lost = having(OWNED, status=Status.ARCHIVED, archived_at=0)
    assert kinds(wants(b"feature"), Actual((FEATURE, gone), (aside, lost), (SHARE,))) == [Ensure]
    both = Actual((replace(FEATURE, gone_at=0), gone), (aside, OWNED), (SHARE,))
    assert kinds(wants(), both) == [Archive, Unshare, Archive]
    fresh = Actual((FEATURE, OWNER), (aside, OWNED), (SHARE,))
    assert kinds(wants(b"owner"), fresh) == [UpdateTimeline]


def test_what_is_on_a_deleted_instance_is_archived_and_purged_when_its_time_is_over() -> None:
    def deleted(*branches: bytes, at: int = NOW + 60_000) -> Desired:
        return Desired(APP, dict.fromkeys(branches, "c1"), (), deleted={InstanceId("store"): at})

    (archive,) = plan(deleted(b"feature"), Actual((FEATURE,), (CONNECTED,)), NOW).actions
    assert isinstance(archive, Archive)
    assert archive.purge_at is None
    kept = having(ARCHIVED, purge_at=None)
    waiting = plan(deleted(b"feature"), Actual((FEATURE,), (kept,)), NOW)
    assert (waiting.actions, waiting.next_at) == ((), NOW + 60_000)
    assert kinds(deleted(b"feature", at=NOW), Actual((FEATURE,), (kept,))) == [Purge]
    assert kinds(deleted(b"feature", at=NOW), Actual((replace(FEATURE, protected=True),), (kept,))) == []
    sooner = plan(deleted(), Actual((replace(FEATURE, gone_at=0),), (ARCHIVED,)), NOW)
    assert (sooner.actions, sooner.next_at) == ((), ARCHIVED.purge_at)
    assert kinds(wants(b"feature"), Actual((FEATURE,), (kept,))) == [Ensure]
