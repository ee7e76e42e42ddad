"""Where databases are stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from provisioner.core.allowance import USUAL_ALLOWANCE, Allowance
from provisioner.core.connection import Location
from provisioner.core.ids import InstanceId


@dataclass(frozen=True, slots=True)
class InstanceMove:
    """The target of an instance's move: its location, URL, and required quorum from then on."""

    location: Location
    url: str = field(repr=False)
    require_quorum: int


@dataclass(frozen=True, slots=True)
class LeftStorage:
    """The location of an instance before its last move. Its old data is there."""

    location: Location
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Instance:
    """Where databases are stored.

    ``url`` is that URL with the administrator's name and password; empty where the engine needs none, or keeps it in the
    directory. ``home`` is the organization's directory: the passwords of roles are derived from its key. On at least
    ``require_quorum`` nodes a write has to lie before it is acknowledged; 0 where that is not looked at.

    ``move`` is the move that is in progress, if there is one; ``left`` is where the last move came from, until what it left
    there is deleted.
    """

    id: InstanceId
    slug: str
    engine: str
    location: Location
    created_at: int
    url: str = field(default="", repr=False)
    require_quorum: int = 0
    home: str = ""
    move: InstanceMove | None = None
    left: LeftStorage | None = None
    allowance: Allowance = USUAL_ALLOWANCE

    @property
    def moving(self) -> bool:
        return self.move is not None

    def storage(self, *, moved: bool) -> Instance:
        """The same, storing only where its databases are that were `moved`, or that were not."""
        if not moved or self.move is None:
            return self
        return replace(self, location=self.move.location, url=self.move.url, require_quorum=self.move.require_quorum)
