"""Which branch owns the data of which timeline, by what git shows. Pure: values in, values out.

Git shows it beyond doubt in two ways. The anchor of a timeline is the log of a branch: that branch is the one, whatever its
name (`Certainty.PROVEN`). Or the anchor is the log of no branch, and its content shows how the branch ended: by the last name
in it, the branch is gone (`Certainty.NAMED`), and a branch that is created under that name gets the data back.

Only after all logs have been rewritten, as ``git gc`` does, and without anchors, the text of the logs decides
(`Certainty.SHOWN`): a log that continues from the last known line of it, by renames that lead to its branch without a
gap. Or, if every branch is explained that way, it is the file that git made when it rewrote the anchored log, which two times
of the kernel show: git creates it and drops the old one within an instant. Or the ref by the last name in the anchor is the file
that it was when the anchor was made, or one from before the last line in it: git makes a new file when it renames, moves or
makes a branch, so that is the branch, even without any log. No time in a log is read, and none of a file once all files were
copied, or their modes, times, or links changed. If two branches may be the one, none is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from provisioner.git.file_times import became
from provisioner.git.reflog import goes_on, goes_on_from, is_copy, names
from provisioner.reconcile.plan.doubts import Doubts, Proofs
from provisioner.reconcile.plan.evidence import Evidence, KnownTimeline, last_of


class Certainty(IntEnum):
    """How sure it is that a branch is the one."""

    NAMED = 0
    SHOWN = 1
    PROVEN = 2


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
                self._claim(item, last_of(item), Certainty.NAMED)
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
        stayed = {item.branch: self._goes_on(item, last_of(item)) for item in self.told}
        since = {last_of(item): stayed[item.branch] for item in self.told if stayed[item.branch] >= 0}
        paths = {
            branch: names(log, branch, since.get(branch, -1), self.evidence.seen)
            for branch, log in self.evidence.loose.items()
        }
        leaving: dict[bytes, list[bytes]] = defaultdict(list)
        for branch, path in paths.items():
            for name in dict.fromkeys(path[1:]):
                if name != branch:
                    leaving[name].append(branch)
        may = {item.branch: [last_of(item), *leaving.get(last_of(item), [])] for item in self.told}
        proofs = {item.branch: self._proofs(item, may[item.branch]) for item in self.told}
        doubts = Doubts(self.evidence, self.known, self.told, proofs, kept=self._kept(proofs))
        sure = doubts.sure
        lasts = {last_of(item) for item in self.told}
        for item in self.told:
            others = leaving.get(last_of(item), [])
            able = [
                each for each in others if each in sure[item.branch] or self._may_be(item, each, paths[each], lasts)
            ]
            self._tell(item, sure[item.branch], able, doubts)

    def _goes_on(self, item: KnownTimeline, branch: bytes) -> int:
        """The position in a branch's log after the known part of an item's, by renames that lead there; -1: none."""
        log = self.evidence.loose.get(branch)
        if log is None:
            return -1
        if item.words is not None:
            return goes_on(log, item.words, item.branch, branch)
        return goes_on_from(log, item.digest, item.branch, branch)

    def _kept(self, proofs: Mapping[bytes, Proofs]) -> bool:
        """Has some log kept lines that were known? Not one of another file with the same text, if files can be distinguished."""
        return self.evidence.kept or any(
            self._goes_on(item, each) >= 0
            for item in self.told
            for each in (proofs[item.branch].by_text if item.words is None else proofs[item.branch].of_file())
        )

    def _proofs(self, item: KnownTimeline, branches: Sequence[bytes]) -> Proofs:
        there = [each for each in branches if each in self.evidence.loose]
        stayed = [last_of(item)] if item.stayed and last_of(item) in self.evidence.branches else []
        by_times = [each for each in there if self._is_its_file(item, each)]
        return Proofs(stayed, by_times, [each for each in there if self._has_all(item, each)])

    def _has_all(self, item: KnownTimeline, branch: bytes) -> bool:
        """Does a log start with all that is known, and continue from there?"""
        if self._goes_on(item, branch) < 0:
            return False
        known = () if item.words is None else item.words.lines
        return self.evidence.loose[branch].lines[: len(known)] == known

    def _is_its_file(self, item: KnownTimeline, branch: bytes) -> bool:
        """Is the log the file that git made when it rewrote the anchored one?"""
        log, born = self.evidence.loose[branch], self.evidence.born.get(branch)
        if item.end is None or born is None or not became(item.end, born):
            return False
        path = names(log, branch, -1, ())
        return self._goes_on(item, branch) >= 0 or (len(path) > len(log.moves) and path[-1] == last_of(item))

    def _may_be(self, item: KnownTimeline, branch: bytes, path: list[bytes], lasts: Collection[bytes]) -> bool:
        """May this be the branch, by what its log says? `path` are the names that it had, the one that is sought among them."""
        log = self.evidence.loose[branch]
        if is_copy(log, branch):
            return False
        if log.begins:  # made since the last look, unless nothing was known then
            return not item.lineage and item.live and path[-1] == last_of(item)
        return next((name for name in reversed(path) if name in lasts), None) == last_of(item)  # git has dropped lines

    def _tell(self, item: KnownTimeline, sure: Sequence[bytes], able: Sequence[bytes], doubts: Doubts) -> None:
        """`sure` are the branches that it is by its log; `able` those that had its name since, and may be it."""
        last = last_of(item)
        possible = [*able, last] if last in sure else able
        if len(possible) > 1:
            self._disown(item, "git does not show which branch it was renamed to", possible)
            return
        branch = possible[0] if possible else last
        candidates = [] if branch in sure else doubts.candidates(item, branch)
        if candidates:
            self._disown(item, "git does not show whether it was renamed", candidates)
        else:
            self._claim(item, branch, Certainty.SHOWN if possible else Certainty.NAMED)
