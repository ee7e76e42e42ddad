"""What programs read of a plan keeps its names, whatever the classes are called."""

from __future__ import annotations

from typing import get_args

from test_plan import CONNECTED, FEATURE, STORE

from provisioner.core.model import Share
from provisioner.reconcile.plan import actions
from provisioner.reconcile.plan.description import describe

EACH: dict[str, actions.Action] = {
    "open": actions.OpenTimeline(b"feature", False, "c1", ""),
    "note": actions.UpdateTimeline(FEATURE, "c1", None, ""),
    "follow": actions.RenameTimeline(FEATURE, b"other", "c1", "", ()),
    "orphan": actions.Orphan(FEATURE, (CONNECTED,), (), "why"),
    "create": actions.Create(FEATURE, STORE),
    "ensure": actions.Ensure(CONNECTED, FEATURE, "why"),
    "archive": actions.Archive(CONNECTED, FEATURE, "why", None),
    "fail": actions.Fail(CONNECTED, FEATURE, "why"),
    "release": actions.ClearHold(CONNECTED, FEATURE),
    "purge": actions.Purge(CONNECTED, FEATURE, "why"),
    "renew": actions.Renew(CONNECTED, FEATURE),
    "unshare": actions.Unshare(FEATURE, Share(FEATURE.id, STORE.id, CONNECTED.id, 0), "why"),
}


def test_each_action_is_called_what_it_always_was() -> None:
    assert {kind: describe(action)["action"] for kind, action in EACH.items()} == {kind: kind for kind in EACH}
    assert {describe(action)["timeline"] for action in EACH.values()} == {"git-branch/feature"}
    assert describe(EACH["fail"])["cause"] == "why"
    assert {type(action) for action in EACH.values()} == set(get_args(actions.Action))
