"""Which branch of a repository is which: what the registry knows of their lineages, against what git shows. Reads only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from provisioner.core.errors import UnreadableRepository
from provisioner.core.model import App
from provisioner.git.anchors import (
    Sight,
    drop_anchors,
    end_of,
    head_goes_on,
    is_original,
    last_words,
    look,
    stays,
    without_logs,
)
from provisioner.git.file_times import Births, births
from provisioner.git.lineage import anchor_name
from provisioner.git.reflog import BranchLog, in_reftable, read_logs
from provisioner.git.refs import read_branches, still_there
from provisioner.reconcile.apply.new_lineages import new_lineage
from provisioner.reconcile.plan.actions import Rename
from provisioner.reconcile.plan.evidence import Evidence, KnownTimeline, last_of
from provisioner.reconcile.plan.lineages import Certainty, Ownership, ownership
from provisioner.registry.settled import Lineage
from provisioner.registry.store import Registry

MOST_LOOKS = 5
RENAME_SECONDS = 0.02  # what git needs between putting a log aside and writing the new ref


@dataclass(frozen=True, slots=True)
class Identities:
    """The branches with their commits, and what has become of those that the registry knows: as in `Desired`."""

    branches: dict[bytes, str]
    renames: tuple[Rename, ...] = ()
    lineages: Mapping[bytes, str] = field(default_factory=dict)
    unowned: Mapping[bytes, str] = field(default_factory=dict)
    unclear: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    renewed: frozenset[bytes] = frozenset()


def identities(
    app: App, known: Sequence[Lineage], marks: Set[str], expected: Set[bytes], *, watched: bool = True
) -> Identities:
    """Look at an app's branches. `known` are those at the last look, of which the `expected` are looked up by their names
    if a listing misses them; `marks` are renames that were followed before there were lineages. Not `watched`: they are known
    from an earlier look, and all logs may have been rewritten since.

    Raises `UnreadableRepository`.
    """
    seen = _Observation(app, known, marks, expected, watched=watched)
    if seen.sight is None:
        return Identities(seen.branches)
    if seen.at_rest:
        return Identities(seen.branches, lineages=dict(seen.new()))
    owned = seen.ownership()
    return Identities(
        seen.branches,
        tuple(seen.renames(owned)),
        dict(seen.lineages(owned)),
        owned.unowned,
        {branch: frozenset(names) for branch, names in owned.unclear.items()},
        frozenset(owned.renewed),
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """The branches, and where their logs are; `logs` holds those of a reftable."""

    branches: dict[bytes, str]
    sight: Sight | None
    logs: dict[bytes, BranchLog]


class _Observation:
    def __init__(
        self, app: App, known: Sequence[Lineage], marks: Set[str], expected: Set[bytes], *, watched: bool
    ) -> None:
        self.app, self.known, self.marks, self.expected, self.watched = app, known, marks, expected, watched
        self.names = {item.branch: item for item in known}
        moment = self._steady()
        self.branches, self.sight, self.logs = moment.branches, moment.sight, moment.logs
        self.at_rest = self.sight is not None and self._at_rest(moment)

    # one moment

    def _steady(self) -> _Moment:
        """Branches and logs of the same moment: read again if anything has moved, until both hold still."""
        before: _Moment | None = None
        same = False
        for _ in range(MOST_LOOKS):
            moment = self._moment()
            if moment.sight is None or self._at_rest(moment):
                return moment
            same = moment == before
            renaming = self._renaming(moment)
            if same and not renaming:
                return moment
            if renaming:
                time.sleep(RENAME_SECONDS)
            before = moment
        if same and before is not None:
            return before
        raise _restless(self.app)

    def _moment(self) -> _Moment:
        branches = stable_branches(self.app, self.expected)
        sight = look(self.app.git_dir, self.app.id)
        if sight is not None and not self.watched:
            sight = replace(sight, whole=False)
        if sight is None and any(item.lineage for item in self.known):
            sight = without_logs(self.app.git_dir, self.app.id)
        logs = read_logs(self.app.git_dir, branches) if sight and in_reftable(self.app.git_dir) else {}
        return _Moment(branches, sight, logs)

    def _at_rest(self, moment: _Moment) -> bool:
        """Is each branch where it was?"""
        assert moment.sight is not None  # noqa: S101
        places, logs, there = moment.sight.places, moment.sight.logs, moment.branches
        for branch, lineage, *_ in self.known:
            at_home = places.get(lineage.partition(".")[0]) == branch
            if not at_home and (lineage or branch in logs or branch not in there):
                return False
        return True

    def _renaming(self, moment: _Moment) -> bool:
        """Is git in the middle of a rename? It puts the log aside, removes the old ref, and writes the new one last."""
        assert moment.sight is not None  # noqa: S101
        for item in self.known:
            place = moment.sight.places.get(anchor_name(item.lineage))
            if place is not None and place not in moment.branches and item.live and not item.gone:
                return True
        return False

    # which branch is which

    def ownership(self) -> Ownership:
        assert self.sight is not None  # noqa: S101
        whole = self.sight.whole
        original = not whole and is_original(self.app.git_dir, self.app.id)
        known = [self._known(item, original=original) for item in self.known]
        unclear = any(item.place is None and (item.words is None or not whole) for item in known)
        loose = self._loose([item.place for item in known if item.place]) if unclear else {}
        rewritten = bool(loose) and not whole
        evidence = Evidence(
            self.branches.keys(),
            self.app.production,
            loose,
            whole,
            self.marks,
            self._births(loose) if rewritten and original else {},
            rewritten and self.watched and head_goes_on(self.app.git_dir, self.app.id),
        )
        return ownership(known, evidence)

    def _known(self, item: Lineage, *, original: bool) -> KnownTimeline:
        assert self.sight is not None  # noqa: S101
        name, _, digest = item.lineage.partition(".")
        place = self.sight.places.get(name)
        words = None
        if place is None and name in self.sight.anchors:
            words = last_words(self.app.git_dir, self.app.id, item.lineage)
        found = KnownTimeline(item.branch, item.lineage, place, words, digest, bool(item.holds), bool(item.live))
        if words is None or self.sight.whole:
            return found
        end = end_of(self.app.git_dir, self.app.id, item.lineage) if original else None
        return replace(found, end=end, stayed=stays(self.app.git_dir, item.lineage, last_of(found), end))

    def _births(self, branches: Iterable[bytes]) -> dict[bytes, Births]:
        found = ((branch, births(self.app.git_dir, branch)) for branch in branches)
        return {branch: each for branch, each in found if each is not None}

    def _loose(self, places: Sequence[bytes]) -> dict[bytes, BranchLog]:
        if self.logs and any(anchor_name(item.lineage) for item in self.known):
            # the refs were files: a log that does not continue from them does not make its branch a new one
            return {branch: replace(log, begins=False) for branch, log in self.logs.items()}
        if self.logs:
            return self.logs
        assert self.sight is not None  # noqa: S101
        anchored = frozenset(places)
        return read_logs(
            self.app.git_dir,
            [branch for branch in self.branches if branch in self.sight.logs and branch not in anchored],
        )

    # what follows from it

    def renames(self, owned: Ownership) -> Iterator[Rename]:
        for old, new in owned.owners.items():
            if old != new:
                proven = owned.standing[old] is Certainty.PROVEN
                yield Rename(old, new, self.names[old].lineage if proven else self._new(new))

    def new(self) -> Iterator[tuple[bytes, str]]:
        """The lineages of branches that the registry does not know."""
        for branch in self.branches.keys() - self.names.keys() - {self.app.production}:
            yield branch, self._new(branch)

    def lineages(self, owned: Ownership) -> Iterator[tuple[bytes, str]]:
        """Those that are not what the registry has."""
        assert self.sight is not None  # noqa: S101
        yield from self.new()
        owner = {self.sight.places.get(anchor_name(item.lineage)): item for item in self.known if item.lineage}
        for branch in owner.keys() & self.branches.keys() - self.names.keys():
            if branch is not None and branch != self.app.production:
                yield branch, owner[branch].lineage
        for item in self.known:
            if item.branch in owner:
                lineage = owner[item.branch].lineage
            elif item.branch in self.branches:
                lineage = item.lineage if self._unmoved(item, owned) else self._new(item.branch)
            else:
                lineage = "" if self._over(item) else item.lineage
            if item.lineage != lineage:
                yield item.branch, lineage

    def _unmoved(self, item: Lineage, owned: Ownership) -> bool:
        """Is it known by its log's text, as before?"""
        shown = owned.standing.get(item.branch) is Certainty.SHOWN and owned.owners[item.branch] == item.branch
        return shown and bool(item.lineage) and not anchor_name(item.lineage)

    def _over(self, item: Lineage) -> bool:
        """Whether its log cannot change any longer. As long as its data is live, git may be renaming it."""
        assert self.sight is not None  # noqa: S101
        place = self.sight.places.get(anchor_name(item.lineage))
        return not item.live if place is None else place in self.branches

    def _new(self, branch: bytes) -> str:
        assert self.sight is not None  # noqa: S101
        if self.logs:
            return new_lineage(None) if branch in self.logs else ""
        return new_lineage(self.sight.logs[branch]) if branch in self.sight.logs else ""


def anchored(registry: Registry, app: App) -> bool:
    """Is every anchor the log of its timeline's branch, for all branches that are there?"""
    sight = look(app.git_dir, app.id)
    condition = "app_id = ? and gone_at is null and branch <> ? and instr(lineage, '.') > 1"
    return sight is not None and all(
        sight.places.get(anchor_name(item.lineage)) == item.branch
        for item in registry.timelines_where(condition, app.id, app.production)
    )


def known_lineages(registry: Registry, app: App) -> set[str]:
    """Those of all timelines of an app."""
    return {
        str(row[0]) for row in registry.rows("select lineage from timeline where app_id = ? and lineage <> ''", app.id)
    }


def remove_unused_anchors(registry: Registry, app: App, before: Set[str]) -> None:
    """Remove those of the lineages that the registry had `before` and has no longer. The caller holds the app's lock.

    All others stay: an owner record may name one that the registry does not know, as it was lost or is an older one.
    """
    drop_anchors(app.git_dir, app.id, before - known_lineages(registry, app))


def stable_branches(app: App, expected: Set[bytes]) -> dict[bytes, str]:
    """The branches, with what seems to be missing looked up again by name."""
    for _ in range(MOST_LOOKS):
        branches = read_branches(app.git_dir)
        if not still_there(app.git_dir, expected - branches.keys()):
            return branches
    raise _restless(app)


def _restless(app: App) -> UnreadableRepository:
    """Git has changed the refs during each of `MOST_LOOKS` looks."""
    return UnreadableRepository(
        f"the refs of {os.fsdecode(app.git_dir)} do not hold still", "Run 'provisioner reconcile' when git is done"
    )
