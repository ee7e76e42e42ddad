"""How many branches of an app have databases: beyond its limit, new ones wait until others are gone."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.core.model import App
from provisioner.reconcile.plan.actions import Action, OpenTimeline


def new_branches(actions: Sequence[Action]) -> list[OpenTimeline]:
    """The branches but production's that are to get databases."""
    return [action for action in actions if isinstance(action, OpenTimeline) and not action.production]


def within_limit(app: App, actions: Sequence[Action], there: int) -> tuple[Action, ...]:
    """The actions without those that would give databases to more branches than the app may have; `there` have some."""
    beyond = new_branches(actions)[max(0, app.max_branches - there) :] if app.max_branches else []
    refused = {action.branch for action in beyond}
    return tuple(action for action in actions if not (isinstance(action, OpenTimeline) and action.branch in refused))
