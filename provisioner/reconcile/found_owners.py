"""The timelines that stored databases belong to now, by their owner records and by what git shows. Reads only.

An owner record says whose the database was when it was written. While no registry followed the branches, they may have been
renamed, deleted or overwritten. So the lineage in the record is compared with the repository, as a reconcile does it with the
lineages in the registry. A record proves nothing if git doesn't show which branch that is now, or if another record claims the
same timeline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core.counts import verb
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import AppId, DatabaseId
from provisioner.core.model import App, Instance
from provisioner.core.naming import shown
from provisioner.core.owner import Owner
from provisioner.git.lineage import unchanged
from provisioner.reconcile.branch_identity import identities
from provisioner.reconcile.changes.found_databases import Found, Withheld
from provisioner.registry import queries
from provisioner.registry.settled import Lineage
from provisioner.registry.store import Registry

Decisions = Mapping[DatabaseId, Owner | Withheld]


class Undecided(Withheld):
    """Why no timeline gets a database before other instances answer."""

    __slots__ = ()


def present_owners(registry: Registry, app: App, found: Sequence[Found], silent: Sequence[Instance]) -> Decisions:
    """For each database its present owner, or why no timeline gets it. `found` are all of the app's that the registry doesn't
    have as they are, except on `silent` instances, which do not answer: their owner records could show a conflict. The caller
    holds the app's lock, under which the timelines' lineages stay the same.

    Raises UnreadableRepository.
    """
    decided: dict[DatabaseId, Owner | Withheld] = {}
    by_app: dict[AppId, list[Found]] = defaultdict(list)
    for each in found:
        owner = each.owner
        if owner is None:
            continue
        if owner.production or owner.preview or owner.orphaned:
            decided[each.id] = owner
        else:
            by_app[owner.app_id].append(each)
    for app_id, group in by_app.items():
        claims = _claims(group)
        lineages = [claim.lineage for claim in claims.values()]  # those that a later registry has say nothing of before
        seen = identities(replace(app, id=app_id), lineages, set(), set(), watched=False)
        moved = {rename.old: rename.new for rename in seen.renames}
        replaced = set(moved.values()) - moved.keys()
        for branch, claim in claims.items():
            target = moved.get(branch, branch)
            why = claim.conflict or seen.unowned.get(branch, "") or _restless(registry, app, target)
            for each in claim.found:
                orphaned = branch in replaced or (target != branch and each not in claim.first)
                if why:
                    decided[each.id] = _withheld(each, why)
                elif silent:
                    decided[each.id] = Undecided(_withheld(each, _unread(silent)))
                else:
                    decided[each.id] = _of(each, target, orphaned=orphaned)
    return decided | _rivals(found, decided)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the owner records say of one branch. `first` are those that decide: the live ones, if there are any."""

    lineage: Lineage
    found: list[Found]
    first: list[Found]
    conflict: str


def _claims(found: Iterable[Found]) -> dict[bytes, _Claim]:
    """By branch."""
    groups: dict[bytes, list[Found]] = defaultdict(list)
    for each in found:
        assert each.owner is not None  # noqa: S101
        groups[each.owner.branch].append(each)
    claims = {}
    for branch, group in groups.items():
        live = [each for each in group if not each.stored.archived]
        first = live or group
        lineages = {each.owner.lineage or "" for each in first if each.owner is not None}
        conflict = (
            "several stored databases claim this branch, but belonged to different branches"
            if len(lineages) > 1
            else ""
        )
        lineage = Lineage(branch, min(lineages), 0, int(bool(live)), 1, 1)
        claims[branch] = _Claim(lineage, group, first, conflict)
    return claims


def _restless(registry: Registry, app: App, branch: bytes) -> str:
    """Is the branch no longer the one that the registry knows by this name?"""
    there = next((each for each in queries.of_branches(registry, app.id, [branch]) if each.of_branch), None)
    if there is None or there.gone_at is not None or branch == app.production:
        return ""
    same = unchanged(app.git_dir, app.id, branch, there.lineage)
    return "" if same else "its branch has changed in the meantime"


def _unread(silent: Sequence[Instance]) -> str:
    names = ", ".join(each.slug for each in silent)
    return f"{names} {verb(len(silent), 'does', 'do')} not answer, and a database there may claim the same branch"


def _of(found: Found, branch: bytes, *, orphaned: bool) -> Owner:
    """Its owner, if its branch has this name now. `orphaned`: another branch has its name, or an older one has left it."""
    assert found.owner is not None  # noqa: S101
    return replace(found.owner, orphaned=True) if orphaned else replace(found.owner, branch=branch)


def _rivals(found: Sequence[Found], decided: Decisions) -> dict[DatabaseId, Owner | Withheld]:
    """The live databases that would become those of one timeline on one instance: none of them does."""
    rivals: dict[tuple[bytes, str], list[Found]] = defaultdict(list)
    for each in found:
        owner = decided.get(each.id)
        if isinstance(owner, Owner) and not owner.orphaned and not each.stored.archived:
            rivals[owner.timeline, each.instance.id].append(each)
    return {
        each.id: _withheld(
            each, f"{len(group)} stored databases belong to one timeline, according to their owner records"
        )
        for group in rivals.values()
        if len({each.id for each in group}) > 1
        for each in group
    }


def _withheld(found: Found, why: str) -> Withheld:
    assert found.owner is not None  # noqa: S101
    return Withheld(f"database {found.id} was of {shown(found.owner.timeline)}, but {why}")


def must_have_owner(decisions: Decisions, found: Found, app: App) -> Owner:
    """The present owner of a database. Raises ProvisionerError if it is withheld."""
    owner = decisions.get(found.id)
    if isinstance(owner, Owner):
        return owner
    if isinstance(owner, Undecided):
        raise ProvisionerError(str(owner), "Start it, or mount its disk, then run the command again")
    raise ProvisionerError(
        str(owner or f"the owner of database {found.id} is unknown"),
        f"Choose its branch: provisioner database recover {found.id} --app {app.slug} --to BRANCH",
    )
