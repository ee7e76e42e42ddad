"""On how many nodes an acknowledged write lies, and each way in which that is not what was promised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.engines.postgres.quorum.quorum_status import (
    Follower,
    Override,
    QuorumStatus,
    Replica,
    Replication,
    quorum_status,
)
from provisioner.engines.postgres.quorum.standby_names import SynchronousStandbys, parse


def _replica(name: str, sync: str = "quorum", state: str = "streaming") -> Replica:
    return Replica(name, "10.0.0.1", Follower.STANDBY, state, sync, 0, 0.001)


NODE2, NODE3 = _replica("node2"), _replica("node3")
WELL = Replication("admin", True, False, True, "ANY 1 (node2,node3)", "on", (), (NODE2, NODE3))


def _broken(found: Replication, wanted: int = 2) -> str:
    """The one reason why a promise does not hold."""
    made = quorum_status(found, wanted)
    assert len(made.broken) == 1, made
    assert not made.holds
    assert f"{made.broken_text}." == made.broken[0]
    return made.broken[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("  ", None),
        ("a", SynchronousStandbys(False, 1, ("a",))),
        ("a, b", SynchronousStandbys(False, 1, ("a", "b"))),
        ("*", SynchronousStandbys(False, 1, ("*",))),
        ("2 (a, b,c)", SynchronousStandbys(False, 2, ("a", "b", "c"))),
        ("FIRST 2 (a,b)", SynchronousStandbys(False, 2, ("a", "b"))),
        ("first 1(a)", SynchronousStandbys(False, 1, ("a",))),
        ("ANY 1 (*)", SynchronousStandbys(True, 1, ("*",))),
        ('any 2 ("node-1", "say ""hi""", n3)', SynchronousStandbys(True, 2, ("node-1", 'say "hi"', "n3"))),
        ("any", SynchronousStandbys(False, 1, ("any",))),
        ("first, any", SynchronousStandbys(False, 1, ("first", "any"))),
        ('"ANY", b', SynchronousStandbys(False, 1, ("ANY", "b"))),
        ('"*"', SynchronousStandbys(False, 1, ("*",))),
        ('"a(b"', SynchronousStandbys(False, 1, ("a(b",))),
    ],
)
def test_the_names_of_standbys_are_read_as_the_server_reads_them(text: str, wanted: SynchronousStandbys | None) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize("text", ["(", "ANY x (a)", "ANY 0 (a)", "a,,b", "a b", "ANY 1 (a", '"a', ", a", "ANY 1 ()"])
def test_what_no_server_accepts_is_no_list_of_names(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(
    ("names", "nodes"),
    [
        ("ANY 1 (node2,node3)", 2),
        ("ANY 1 (*)", 2),
        ("ANY 2 (node2,node3)", 3),
        ("FIRST 1 (node2,node3)", 2),
        ("2 (node2,node3)", 3),
        ("node2", 2),
    ],
)
def test_a_write_lies_on_the_primary_and_on_those_it_waits_for(names: str, nodes: int) -> None:
    made = quorum_status(replace(WELL, names=names), 2)
    assert made.holds
    assert made.nodes == nodes


def test_a_standby_that_would_take_another_ones_place_counts() -> None:
    found = replace(
        WELL, names="FIRST 1 (node2,node3)", replicas=(_replica("node2", "sync"), _replica("node3", "potential"))
    )
    assert quorum_status(found, 2) == QuorumStatus(2, 2)


def test_of_a_standby_nothing_is_promised() -> None:
    found = replace(WELL, in_recovery=True, replicas=())
    assert "target_session_attrs=read-write" in _broken(found)
    assert quorum_status(found, 2).nodes == 0


def test_without_names_only_the_primary_has_it() -> None:
    found = replace(WELL, names="", replicas=(_replica("node2", "async"), _replica("node3", "async")))
    text = _broken(found)
    assert "on the primary alone" in text
    assert "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (node2, node3)'" in text
    assert "synchronous_mode=quorum" in text
    assert quorum_status(found, 2).nodes == 1


def test_names_are_proposed_as_sql_has_them() -> None:
    found = replace(WELL, names="", replicas=(_replica("Node-2", "async"),))
    assert "'ANY 1 (\"Node-2\")'" in _broken(found)
    assert "'ANY 1 (*)'" in _broken(replace(found, replicas=()))


def test_fewer_than_are_wanted_are_too_few() -> None:
    text = _broken(WELL, 3)
    assert "waits for 1 standby and so is stored on 2 nodes, and 3 are wanted" in text
    assert "'ANY 2 (node2, node3)'" in text
    assert quorum_status(WELL, 3).nodes == 2


@pytest.mark.parametrize(
    ("value", "nodes", "words"),
    [
        ("off", 0, "before it is on any disk"),
        ("local", 1, "on the primary alone"),
        ("remote_write", 1, "in its memory, not on its disk"),
        ("later", 1, "not known"),
    ],
)
def test_a_commit_that_does_not_wait_promises_nothing(value: str, nodes: int, words: str) -> None:
    found = replace(WELL, commit=value)
    text = _broken(found)
    assert f"synchronous_commit is {value}" in text
    assert words in text
    assert "ALTER SYSTEM RESET synchronous_commit" in text
    assert quorum_status(found, 2).nodes == nodes


def test_a_commit_that_waits_longer_than_it_has_to_is_well() -> None:
    assert quorum_status(replace(WELL, commit="remote_apply"), 2).holds


def test_what_is_set_for_every_role_counts_for_every_role() -> None:
    assert "ALTER ROLE ALL RESET" in _broken(replace(WELL, overrides=(Override("", "", "off"),)))
    assert quorum_status(replace(WELL, commit="off", overrides=(Override("", "", "on"),)), 2).holds


def test_what_a_role_chose_for_itself_stops_nobody_else() -> None:
    chosen = (Override("", "pv_1", "off"), Override("pv_2", "", "local"), Override("pv-3", "pv_3", "off"))
    made = quorum_status(replace(WELL, overrides=(*chosen, Override("", "pv_4", "remote_apply"))), 2)
    assert made.holds
    assert [text.partition("undo it: ")[2] for text in made.warnings] == [
        "ALTER ROLE pv_1 RESET synchronous_commit.",
        "ALTER DATABASE pv_2 RESET synchronous_commit.",
        'ALTER ROLE pv_3 IN DATABASE "pv-3" RESET synchronous_commit.',
    ]


def test_without_syncing_no_node_has_anything() -> None:
    found = replace(WELL, fsync=False)
    assert "fsync is off" in _broken(found)
    assert quorum_status(found, 2).nodes == 0


def test_who_may_not_see_the_standbys_cannot_promise() -> None:
    found = replace(WELL, user="Shop admin", sees=False, replicas=())
    assert 'GRANT pg_monitor TO "Shop admin"' in _broken(found)


def test_writes_that_wait_for_ever_are_no_promise() -> None:
    text = _broken(replace(WELL, replicas=()))
    assert "0 of 1 standby that each write waits for are there, so writes wait" in text
    assert "node2 is not connected, node3 is not connected" in text
    assert "none is connected" in _broken(replace(WELL, names="ANY 1 (*)", replicas=()))
    two = replace(WELL, names="ANY 2 (node2,node3)", replicas=(NODE3,))
    assert "1 of 2 standbys that each write waits for is there" in _broken(two, 3)
    assert "node3 follows, node2 is not connected" in _broken(two, 3)


def test_a_standby_that_is_catching_up_is_not_there_yet() -> None:
    behind = replace(_replica("node2", "potential", "catchup"), lag_bytes=1_234_567)
    text = _broken(replace(WELL, replicas=(behind,)))
    assert "node2 is in state catchup, 1,234,567 bytes behind, node3 is not connected" in text


def test_a_standby_that_nobody_named_is_not_waited_for() -> None:
    text = _broken(replace(WELL, names="ANY 1 (node2)", replicas=(_replica("node3", "async"),)))
    assert "node3 follows, and no write waits for it" in text
    assert "node2 is not connected" in text


def test_more_standbys_than_are_named_are_never_there() -> None:
    made = quorum_status(replace(WELL, names="ANY 3 (node2,node3)"), 2)
    assert "more standbys than it names" in made.broken[0]


@pytest.mark.parametrize("follower", [Follower.SUBSCRIBER, Follower.RECEIVER])
def test_who_could_not_take_over_does_not_count(follower: Follower) -> None:
    other = replace(_replica("reports"), follower=follower)
    found = replace(WELL, names="ANY 1 (*)", replicas=(NODE2, other))
    assert f"reports is a {follower}" in _broken(found)
    assert quorum_status(found, 2).nodes == 1
    uncounted = replace(other, sync="async")
    assert quorum_status(replace(WELL, replicas=(NODE2, NODE3, uncounted)), 2) == QuorumStatus(2, 2)


def test_it_is_said_when_no_standby_can_be_spared() -> None:
    made = quorum_status(replace(WELL, replicas=(NODE3,)), 2)
    assert made.holds
    assert made.warnings == (
        "node2 is not connected.",
        "no standby can be spared: once another one is lost, writes wait.",
    )


def test_every_reason_is_named_at_once() -> None:
    made = quorum_status(replace(WELL, names="", commit="off", fsync=False), 2)
    assert len(made.broken) == 3
    assert " Also: " in made.broken_text
