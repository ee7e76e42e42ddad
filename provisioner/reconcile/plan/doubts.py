"""Which branches may be the one with a timeline's data, if no log shows it. Pure.

A log that is rewritten once shows all: its anchor holds the old lines, and the new file holds the later ones. If it
is rewritten twice between two looks, and loses its lines, it no longer shows a rename in between. Then a branch keeps its
data by its name alone only if no other branch can have taken the name. A log can also be lost altogether: then every new
branch without a log may have had one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from provisioner.git.reflog import is_copy
from provisioner.reconcile.plan.evidence import Evidence, KnownTimeline, last_of


class Proofs(NamedTuple):
    """The branches whose ref is still the file that it was, those whose log is the file that became of an anchored one by its
    times, and those whose log has the text that is known.

    Times and texts are proofs only if every branch is explained: another one with the same history can have the text, within
    one second, and another one's log can be created when the file of a lost one changes.
    """

    by_ref: Sequence[bytes]
    by_times: Sequence[bytes]
    by_text: Sequence[bytes]

    def of_file(self) -> list[bytes]:
        return [*self.by_ref, *self.by_times]


class Doubts:
    """`told` are the timelines whose branches the logs have to tell; `sure` has for each the branches that do. `kept`: some
    log still has lines that were known, so that not all logs have lost theirs."""

    def __init__(
        self,
        evidence: Evidence,
        known: Sequence[KnownTimeline],
        told: Sequence[KnownTimeline],
        proofs: Mapping[bytes, Proofs],
        *,
        kept: bool,
    ) -> None:
        self.evidence, self.kept = evidence, kept
        timelines = {item.branch for item in known}
        certain = {each for proof in proofs.values() for found in proof for each in found}
        placed = {item.place for item in known}
        self.unproven = {each for each in evidence.loose if not self._is_new(each)}
        logged = {last_of(item) for item in told if item.lineage}
        unlogged = set(evidence.branches) - evidence.loose.keys() - placed
        unlogged -= {item.branch for item in known if not item.lineage}  # those had none when the registry last looked
        lost = bool(logged) and not evidence.whole and not evidence.kept
        self.unlogged = unlogged - logged if lost else set()
        self.unproven |= self.unlogged | unlogged & logged
        self.unproven -= certain | {evidence.production}
        unexplained = self.unproven - {last_of(item) for item in told if not _text(item)}
        self.sure = {
            branch: list(dict.fromkeys([*proof.by_ref, *([] if unexplained else (*proof.by_times, *proof.by_text))]))
            for branch, proof in proofs.items()
        }
        self.unproven |= certain - {each for found in self.sure.values() for each in found}
        moved = {each for each, log in evidence.loose.items() if log.moves}
        self.strangers = list(self.unproven - timelines - moved)
        self.lost = [item for item in told if item.live and not self.sure[item.branch]]

    def _is_new(self, branch: bytes) -> bool:
        log = self.evidence.loose[branch]
        return log.begins or is_copy(log, branch)

    def candidates(self, item: KnownTimeline, branch: bytes) -> list[bytes]:
        """Those that may be it, if it is not beyond doubt that `branch` is, or that it is gone and `branch` is a new one."""
        if not self._may_have_lost_a_rename(item):
            return self.strangers if branch not in self.evidence.branches and item.lineage else []
        others = self.unproven - {branch} if item.live else set()
        others -= set() if item.lineage else self.unlogged  # no log of it was lost
        if branch not in self.unproven:
            return sorted(others)
        taken = any(each is not item for each in self.lost)
        return [branch, *sorted(others)] if others or taken else []

    def _may_have_lost_a_rename(self, item: KnownTimeline) -> bool:
        if self.evidence.whole:
            return False
        return not self.kept or (item.words is not None and bool(item.words.lines))


def _text(item: KnownTimeline) -> bool:
    """Is anything known of its log?"""
    return bool(item.digest if item.words is None else item.words.lines)
