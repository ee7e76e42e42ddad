"""What is known of branches, and what git shows of them: values that `lineages` settles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from provisioner.git.file_times import Births, LogEnd
from provisioner.git.reflog import BranchLog, last_name


@dataclass(frozen=True, slots=True)
class KnownTimeline:
    """A timeline of a branch, as it was at the last look.

    `place` is the branch whose log its anchor is now; empty if git has put the log aside, None if it isn't a branch's log. Then
    `words` is what the anchor holds. `digest` is that of the log when it was anchored. `holds`: there is data. Not `live`: its
    branch has ended, and only one that is made under its name gets the data back. `end`: what is known of the file that its log
    was, if its times can be relied on. `stayed`: the ref by its last name is a file from before that, so it is its ref still.
    """

    branch: bytes
    lineage: str
    place: bytes | None
    words: BranchLog | None
    digest: str
    holds: bool
    live: bool = True
    end: LogEnd | None = None
    stayed: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What git shows: its branches, and the logs of those that no anchor is of (`loose`; only where they are asked for).

    `whole`: all other logs are as they were, so that an anchor which isn't a log belongs to a branch that is gone. `seen` are
    renames that a registry without anchors has followed. `born`: when the files of these branches were created. `kept`: no log
    has lost all that was known of it.
    """

    branches: Collection[bytes]
    production: bytes
    loose: Mapping[bytes, BranchLog]
    whole: bool
    seen: Collection[str] = ()
    born: Mapping[bytes, Births] = field(default_factory=dict)
    kept: bool = False


def last_of(item: KnownTimeline) -> bytes:
    """The last name that is known of its branch."""
    return item.branch if item.words is None else last_name(item.words, item.branch)
