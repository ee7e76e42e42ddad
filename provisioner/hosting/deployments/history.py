"""Which deployment of a timeline was healthy before the one that serves."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.core.hosting import Deployment, DeploymentState

PUSH, ASKED = "push", "asked"
"""Causes of deployments."""


def healthy_before(past: Sequence[Deployment], active: str) -> Deployment | None:
    """The last deployment of another revision that was healthy before the active one; None if there is none.

    `past` has the newest first. What a user has deployed again, as a rollback does whose files were removed, counts from the
    first deployment of its revision: what was pushed after that is not before it.
    """
    place = next((place for place, each in enumerate(past) if each.id == active), None)
    if place is None:
        return None
    now = past[place]
    if now.cause == ASKED:
        place = max(place for place, each in enumerate(past) if each.revision == now.revision)
    behind = (each for each in past[place + 1 :] if each.revision != now.revision)
    return next((each for each in behind if each.state is DeploymentState.READY), None)
