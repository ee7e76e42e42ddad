"""The state of a directory that is not the home that it claims to be, in the user's words with the next step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from provisioner.core.errors import WrongHome
from provisioner.system import identity
from provisioner.system.home import Home
from provisioner.system.identity import Identity


class HomeState(StrEnum):
    """``here``: it is where it was created. ``copied``: so is the home that it is a copy of."""

    HERE = "here"
    MOVED = "moved"
    COPIED = "copied"
    RESTORED = "restored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HomeFinding:
    """`identity` is the content of its file; None if it is missing or damaged."""

    state: HomeState
    identity: Identity | None


def standing(home: Home) -> HomeFinding:
    """The standing of the directory. Raises WrongHome if that cannot be read."""
    found = identity.read(home)
    said, inode = found or (None, "")
    if said is None:
        return HomeFinding(HomeState.UNKNOWN, None)
    if identity.is_at(said, home):
        return HomeFinding(HomeState.HERE if identity.fits(said, inode) else HomeState.RESTORED, said)
    return HomeFinding(HomeState.COPIED if _lives(said) else HomeState.MOVED, said)


def refusal(home: Home, registry_id: str = "") -> WrongHome:
    """The error for this directory. `registry_id` is the home of its registry, if that is the problem."""
    found = standing(home)
    what, hint = _words(home, found)
    if found.state is HomeState.HERE and registry_id:
        what = f"{home.registry} is the registry of another home"
        hint = "Restore the registry of this home. See: provisioner doctor"
    return WrongHome(f"{what}, so nothing was changed and no program was connected", hint)


def explained(home: Home, found: HomeFinding) -> str:
    """The state of a home, and what to do about it, as one sentence or two."""
    what, hint = _words(home, found)
    return f"{what}. {hint}" if hint else what


_MOVED, _COPIED = "provisioner home adopt --moved", "provisioner home adopt --copied"
_EITHER = f"If it replaces the original, run: {_MOVED}. If the original is still in use, run: {_COPIED}"


def _words(home: Home, found: HomeFinding) -> tuple[str, str]:
    was = found.identity.path if found.identity else ""
    match found.state:
        case HomeState.HERE:
            return home.path, ""
        case HomeState.MOVED:
            return f"the home {home.path} was created at {was}, which no longer exists", _EITHER
        case HomeState.COPIED:
            return f"the home {home.path} is a copy of {was}, which still exists", f"Run: {_COPIED}"
        case HomeState.RESTORED:
            return f"the home {home.path} was restored, or comes from another disk or machine", _EITHER
        case HomeState.UNKNOWN:
            return f"the home {home.path} has no identity: {home.identity} is missing or damaged", _EITHER
    assert_never(found.state)


def _lives(said: Identity) -> bool:
    """Whether the home with this identity is where it was created. One that cannot be read may be."""
    there = Home(said.path)
    try:
        found = identity.read(there)
    except WrongHome:
        return True
    if found is None:
        return False
    other, _ = found
    return other is not None and other.id == said.id and os.path.isfile(there.registry)
