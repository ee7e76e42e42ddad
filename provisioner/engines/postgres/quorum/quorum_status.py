"""On how many nodes does a write lie once a server has acknowledged it? Decided from what the server says of itself.

What the words of a server mean is in PostgreSQL's documentation, chapters "Synchronous Replication" and
"synchronous_standby_names"; the primary counts as a node. No I/O: replication_status.py asks the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from provisioner.engines.postgres.quorum.standby_names import SynchronousStandbys, parse

_DURABLE = ("on", "remote_apply")


class Follower(StrEnum):
    """Who receives a server's log."""

    STANDBY = "standby"
    SUBSCRIBER = "logical subscriber"
    RECEIVER = "receiver of files"


@dataclass(frozen=True, slots=True)
class Replica:
    """A node that receives the log now. `state` and `sync` are the server's words (``streaming``, ``catchup`` …; ``sync``,
    ``potential``, ``quorum``, ``async``); for both lags None is unknown."""

    name: str
    address: str
    follower: Follower
    state: str
    sync: str
    lag_bytes: int | None = None
    lag_seconds: float | None = None

    @property
    def counts(self) -> bool:
        """May its word be one of those that a commit waits for, now?"""
        return self.state == "streaming" and self.sync in ("sync", "quorum", "potential")


@dataclass(frozen=True, slots=True)
class Override:
    """Sessions of a role, in a database, start with another `synchronous_commit`; an empty name stands for all."""

    database: str
    role: str
    value: str


@dataclass(frozen=True, slots=True)
class Replication:
    """What a server says: `names` and `commit` are its synchronous_standby_names and synchronous_commit.

    `user` is the current role, and `sees` whether it may see the replicas; `overrides` are those for provisioner's databases.
    """

    user: str
    sees: bool
    in_recovery: bool
    fsync: bool
    names: str
    commit: str
    overrides: tuple[Override, ...] = ()
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class QuorumStatus:
    """Whether an acknowledged write is on `wanted` nodes, and whether there are enough nodes for the next one.

    It is on `nodes`. `broken` says why the quorum is not kept, and what to do; `warnings` are problems that do not affect it
    yet. Each is a sentence or two.
    """

    wanted: int
    nodes: int
    broken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.broken

    @property
    def broken_text(self) -> str:
        """Why it does not hold, in one line without its last full stop; empty where it does."""
        return " Also: ".join(self.broken).removesuffix(".")


def quorum_status(found: Replication, wanted: int) -> QuorumStatus:
    """`wanted` is at least 2: of three nodes a quorum is two."""
    if found.in_recovery:
        return QuorumStatus(wanted, 0, (_STANDBY,))
    asked = parse(found.names)
    impostors = tuple(one for one in found.replicas if one.counts and one.follower is not Follower.STANDBY)
    nodes = _nodes(found, asked, len(impostors))
    broken = [*_settings(found), *_names(asked, found, wanted)]
    if not found.sees:
        broken.append(
            f"{found.user} may not see the standbys, so their number is unknown. As superuser run: GRANT pg_monitor"
            f" TO {_identifier(found.user)}."
        )
    elif asked is not None:
        broken += [_impostor(one, found) for one in impostors]
        broken += _missing(asked, found)
    return QuorumStatus(wanted, nodes, tuple(broken), tuple(_warnings(asked, found)))


def _nodes(found: Replication, asked: SynchronousStandbys | None, impostors: int) -> int:
    """At least this many have a write on disk when it is acknowledged."""
    if not found.fsync or _value(found) == "off":
        return 0
    if asked is None or _value(found) not in _DURABLE:
        return 1
    return 1 + max(0, asked.count - impostors)


def _value(found: Replication) -> str:
    """The setting that sessions start with, unless another one is set for them."""
    return next((one.value for one in found.overrides if not one.database and not one.role), found.commit)


def _settings(found: Replication) -> list[str]:
    broken = []
    if not found.fsync:
        broken.append(
            "fsync is off: what is acknowledged may be on no disk. Run: ALTER SYSTEM RESET fsync; SELECT pg_reload_conf()."
        )
    value = _value(found)
    if value not in _DURABLE:
        everywhere = value != found.commit
        how = "ALTER ROLE ALL RESET synchronous_commit" if everywhere else _reset("synchronous_commit")
        broken.append(
            f"synchronous_commit is {value}: {_WEAK.get(value, 'it is not known what that means')}. Run: {how}."
        )
    return broken


def _names(asked: SynchronousStandbys | None, found: Replication, wanted: int) -> list[str]:
    """The problems with the names of synchronous standbys, whatever standbys are connected."""
    if asked is None:
        return [
            "synchronous_standby_names is empty: a write is acknowledged as soon as it is on the primary alone."
            f" {_how_to_ask(found, wanted)}"
        ]
    if asked.count + 1 < wanted:
        return [
            f"synchronous_standby_names is {found.names}: a write waits for {_standbys(asked.count)} and so is stored on"
            f" {asked.count + 1} nodes, and {wanted} are wanted. {_how_to_ask(found, wanted)}"
        ]
    if not asked.anybody and len(asked.names) < asked.count:
        return [
            f"synchronous_standby_names is {found.names}: it asks for more standbys than it names, so no write is ever"
            f" acknowledged. {_how_to_ask(found, wanted)}"
        ]
    return []


def _missing(asked: SynchronousStandbys, found: Replication) -> list[str]:
    """Fewer standbys than a commit needs: no write is acknowledged without them, so none is acknowledged at all."""
    there = [one for one in found.replicas if one.counts and one.follower is Follower.STANDBY]
    if len(there) >= asked.count:
        return []
    have = f"{len(there)} of {_standbys(asked.count)} that each write waits for"
    return [f"{have} {'is' if len(there) == 1 else 'are'} there, so writes wait: {_state(asked, found)}"]


def _state(asked: SynchronousStandbys, found: Replication) -> str:
    """The connected standbys, with their states, and the missing ones; ends with what to do."""
    said = [_described(one) for one in found.replicas if one.follower is Follower.STANDBY]
    said += [f"{name} is not connected" for name in _absent(asked, found)]
    if not said:
        said = ["none is connected"]
    return f"{', '.join(said)}. Start the nodes that are down, and look at what the log of each says."


def _described(one: Replica) -> str:
    if one.counts:
        return f"{one.name} follows"
    if one.state == "streaming":
        return f"{one.name} follows, and no write waits for it, because synchronous_standby_names does not name it"
    behind = "" if one.lag_bytes is None else f", {one.lag_bytes:,} bytes behind"
    return f"{one.name} is in state {one.state}{behind}"


def _absent(asked: SynchronousStandbys, found: Replication) -> list[str]:
    here = {one.name.lower() for one in found.replicas}
    return [name for name in asked.names if not asked.anybody and name.lower() not in here]


def _impostor(one: Replica, found: Replication) -> str:
    return (
        f"{one.name} is a {one.follower}, and it counts as a standby by synchronous_standby_names = {found.names}:"
        " a write may be acknowledged that is on no node which could take over. Use the names of the standbys there."
    )


def _warnings(asked: SynchronousStandbys | None, found: Replication) -> list[str]:
    warnings = []
    if asked is not None and found.sees:
        counted = sum(one.counts and one.follower is Follower.STANDBY for one in found.replicas)
        if counted >= asked.count and (absent := _absent(asked, found)):
            warnings.append(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not connected.")
        if counted == asked.count:
            warnings.append("no standby can be spared: once another one is lost, writes wait.")
    for one in found.overrides:
        if (one.database or one.role) and one.value not in _DURABLE:
            warnings.append(_own_choice(one))
    return warnings


def _own_choice(one: Override) -> str:
    """A role may set this for itself, at any time: that cannot be forbidden, and must not stop others."""
    of = " in ".join(filter(None, (one.role, one.database)))
    whose = f"ROLE {_identifier(one.role)}" if one.role else f"DATABASE {_identifier(one.database)}"
    if one.role and one.database:
        whose += f" IN DATABASE {_identifier(one.database)}"
    return f"{of} has chosen synchronous_commit = {one.value} for itself. To undo it: ALTER {whose} RESET synchronous_commit."


def _how_to_ask(found: Replication, wanted: int) -> str:
    names = sorted({one.name for one in found.replicas if one.follower is Follower.STANDBY and one.name})
    whom = ", ".join(map(_identifier, names)) if len(names) >= wanted - 1 else "*"
    return (
        f"Run: ALTER SYSTEM SET synchronous_standby_names = 'ANY {wanted - 1} ({whom})'; SELECT pg_reload_conf(). With Patroni:"
        f" patronictl edit-config --set synchronous_mode=quorum --set synchronous_mode_strict=true"
        f" --set synchronous_node_count={wanted - 1}."
    )


def _reset(name: str) -> str:
    return f"ALTER SYSTEM RESET {name}; SELECT pg_reload_conf()"


def _standbys(count: int) -> str:
    return f"{count} standby{'' if count == 1 else 's'}"


def _identifier(name: str) -> str:
    """As SQL has it."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


_STANDBY = (
    "this node is a standby, where nothing can be written. Name all nodes in the URL, and let it lead to the one that can:"
    " postgresql://…@node1,node2,node3/postgres?target_session_attrs=read-write."
)
_WEAK = {
    "off": "a write is acknowledged before it is on any disk",
    "local": "a write is acknowledged as soon as it is on the primary alone",
    "remote_write": "a standby has what was acknowledged in its memory, not on its disk",
}
