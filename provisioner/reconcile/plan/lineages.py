"""Which branch owns the data of which timeline, by what git shows. Pure: values in, values out.

Git shows it beyond doubt in two ways. The anchor of a timeline is the log of a branch: that branch is the one, whatever its
name (`Certainty.PROVEN`). Or the anchor is the log of no branch, and its content shows how the branch ended: by the last name
in it, the branch is gone (`Certainty.NAMED`), and a branch that is created under that name gets the data back.

Only after all logs have been rewritten, as ``git gc`` does, and without anchors, the text of the logs decides
(`Certainty.SHOWN`): a log that continues from the last known line of it, by renames that lead to its branch without a
gap. No time is read. If two branches may be the one, none is: neither order nor ties decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from provisioner.git.reflog import BranchLog, goes_on, goes_on_from, last_name, names


class Certainty(IntEnum):
    """How sure it is that a branch is the one."""

    NAMED = 0
    SHOWN = 1
    PROVEN = 2


@dataclass(frozen=True, slots=True)
class KnownTimeline:
    """A timeline of a branch, as it was at the last look.

    `place` is the branch whose log its anchor is now; empty if git has put the log aside, None if it is not a branch's log. Then
    `words` is the content of the anchor. `digest` is that of the log when it was anchored. `holds`: it has data. Not `live`: its
    branch has ended, and only one that is made under its name gets the data back.
    """

    branch: bytes
    lineage: str
    place: bytes | None
    words: BranchLog | None
    digest: str
    holds: bool
    live: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What git shows: its branches, and the logs of those that no anchor is of (`loose`; only where they are asked for).

    `whole`: all other logs are as they were, so an anchor that belongs to no log proves that its branch is gone. `seen` are
    renames that a registry without anchors has followed.
    """

    branches: Collection[bytes]
    production: bytes
    loose: Mapping[bytes, BranchLog]
    whole: bool
    seen: Collection[str] = ()


@dataclass(slots=True)
class Ownership:
    """`owners` has for each timeline's branch the branch that has its data now, where both are there.

    Those of them that are `renewed` are other branches by now, created under a name whose branch had ended.
    `unowned` are timelines whose data no branch gets, and why. `unclear` are branches that may own the data of timelines, by
    their branches: they get nothing until a person has decided.
    """

    owners: dict[bytes, bytes] = field(default_factory=dict)
    standing: dict[bytes, Certainty] = field(default_factory=dict)
    renewed: set[bytes] = field(default_factory=set)
    unowned: dict[bytes, str] = field(default_factory=dict)
    unclear: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))


def ownership(known: Sequence[KnownTimeline], evidence: Evidence) -> Ownership:
    """Who owns what, for all timelines of an app at once: no branch gets the data of two, and no data goes to two branches."""
    return _Settlement(known, evidence).settle()


class _Settlement:
    def __init__(self, known: Sequence[KnownTimeline], evidence: Evidence) -> None:
        self.known, self.evidence = known, evidence
        self.result = Ownership()
        self.claims: dict[bytes, list[tuple[Certainty, KnownTimeline]]] = defaultdict(list)
        self.told = [item for item in known if item.place is None and not self._ended(item)]

    def _ended(self, item: KnownTimeline) -> bool:
        """Does the anchor itself say how its branch ended?"""
        return item.words is not None and self.evidence.whole

    def settle(self) -> Ownership:
        for item in self.known:
            if item.place is not None:
                self._proven(item, item.place)
            elif self._ended(item):
                self._claim(item, _last(item), Certainty.NAMED)
        self._by_text()
        for branch, claims in self.claims.items():
            self._grant(branch, claims)
        for name, branch in list(self.result.owners.items()):
            if branch in self.result.unclear and self.result.standing[name] is Certainty.NAMED:
                del self.result.owners[name]  # its name alone does not prove it, if it may be another one
                self.result.unowned[name] = "git does not show which branch has its name now"
            else:
                self.result.unclear.pop(branch, None)
        self.result.unclear.pop(self.evidence.production, None)
        return self.result

    def _claim(self, item: KnownTimeline, branch: bytes, standing: Certainty) -> None:
        self.claims[branch].append((standing, item))

    def _proven(self, item: KnownTimeline, place: bytes) -> None:
        if place in self.evidence.branches:
            self._claim(item, place, Certainty.PROVEN)
        elif not place:  # git is about to rename it, and was cut off if that lasts
            self._claim(item, item.branch, Certainty.NAMED)
        elif item.branch in self.evidence.branches:
            self._disown(item, "its branch was renamed, and another one has its name")
        # else git is about to write the ref of its new name: the next look finds it

    def _disown(self, item: KnownTimeline, why: str, candidates: Iterable[bytes] = ()) -> None:
        self.result.unowned[item.branch] = why
        for branch in candidates if item.holds else ():
            self.result.unclear[branch].add(item.branch)

    def _grant(self, branch: bytes, claims: list[tuple[Certainty, KnownTimeline]]) -> None:
        """Give a branch the data of the one timeline with the best claim; the others' goes to none."""
        best = max(standing for standing, _ in claims)
        winners = [item for standing, item in claims if standing is best]
        others = [item for standing, item in claims if standing is not best]
        if len(winners) > 1:
            candidates = [branch] if best is Certainty.SHOWN or not self.evidence.whole else []
            for item in (*winners, *others):
                self._disown(item, "git does not show which of several branches it was", candidates)
            return
        (winner,) = winners
        for item in others:
            if item.branch != branch:
                self._disown(item, "its branch was overwritten or deleted under another name")
        if branch not in self.evidence.branches:
            if winner.branch != branch:
                self._disown(winner, "its branch was renamed and then deleted")
        elif branch == self.evidence.production:
            self._disown(winner, "its branch became the production branch")
        else:
            self.result.owners[winner.branch] = branch
            self.result.standing[winner.branch] = best
            if best is Certainty.NAMED and self._ended(winner):
                self.result.renewed.add(branch)

    # by the text of the logs

    def _by_text(self) -> None:
        if not self.told:
            return
        stayed = {item.branch: self._goes_on(item, _last(item)) for item in self.told}
        since = {_last(item): stayed[item.branch] for item in self.told if stayed[item.branch] >= 0}
        paths = {
            branch: names(log, branch, since.get(branch, -1), self.evidence.seen)
            for branch, log in self.evidence.loose.items()
        }
        leaving: dict[bytes, list[bytes]] = defaultdict(list)
        for branch, path in paths.items():
            for name in dict.fromkeys(path[1:]):
                if name != branch:
                    leaving[name].append(branch)
        timelines = {item.branch for item in self.known}
        opaque = [
            branch
            for branch, log in self.evidence.loose.items()
            if not log.begins and len(paths[branch]) == 1 and branch not in timelines
        ]
        lasts = {_last(item) for item in self.told}
        for item in self.told:
            others = leaving.get(_last(item), [])
            able = [branch for branch in others if self._may_be(item, branch, paths[branch], lasts)]
            self._tell(item, stayed[item.branch] >= 0, able, opaque)

    def _goes_on(self, item: KnownTimeline, branch: bytes) -> int:
        """The position in a branch's log after the known part of an item's, by renames that lead there; -1: none."""
        log = self.evidence.loose.get(branch)
        if log is None:
            return -1
        if item.words is not None:
            return goes_on(log, item.words, item.branch, branch)
        return goes_on_from(log, item.digest, item.branch, branch)

    def _may_be(self, item: KnownTimeline, branch: bytes, path: list[bytes], lasts: Collection[bytes]) -> bool:
        """Is this the branch, by what its log says? `path` are the names that it had, the one that is sought among them."""
        if self._goes_on(item, branch) >= 0:
            return True
        if self.evidence.loose[branch].begins:  # made since the last look, unless nothing was known then
            return not item.lineage and item.live and path[-1] == _last(item)
        return next((name for name in reversed(path) if name in lasts), None) == _last(item)  # git has dropped lines

    def _tell(self, item: KnownTimeline, stayed: bool, able: Sequence[bytes], opaque: Sequence[bytes]) -> None:
        """`stayed`: the branch of its name may be it; `able` are those that had the name since, and may be it."""
        last = _last(item)
        if len(able) == 1 and not stayed:
            self._claim(item, able[0], Certainty.SHOWN)
        elif able:
            self._disown(item, "git does not show which branch it was renamed to", [*able, *([last] if stayed else [])])
        elif stayed:
            self._claim(item, last, Certainty.SHOWN)
        elif last not in self.evidence.branches and item.lineage and opaque:
            self._disown(item, "git does not show whether it was renamed", opaque)
        else:
            self._claim(item, last, Certainty.NAMED)


def _last(item: KnownTimeline) -> bytes:
    """The last name that is known of its branch."""
    return item.branch if item.words is None else last_name(item.words, item.branch)
