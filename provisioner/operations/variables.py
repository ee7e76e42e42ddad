"""An app's variables in each context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved, UsageError
from provisioner.core.model import App, Context
from provisioner.core.nearest import nearest
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.registry import variables
from provisioner.registry.store import Registry

USUAL = (Context.PRODUCTION, Context.DEVELOPMENT)


def assign(
    registry: Registry, app: App, values: Mapping[str, str], contexts: Sequence[Context], *, secret: bool
) -> Proposal:
    """Set variables: all of them, or none if one is refused."""
    if not values:
        raise UsageError("there is nothing to set", "Use NAME=VALUE, or --from-file .env")

    def do(_: ProgressReporter) -> Iterator[str]:
        chosen = list(contexts or USUAL)
        variables.save(registry, app, dict(values), chosen, now_ms(), secret=secret)
        yield f"Set {', '.join(values)} of {app.slug} for {', '.join(chosen)}"

    return Proposal(do)


def unset(registry: Registry, app: App, names: Sequence[str], contexts: Sequence[Context] | None) -> Proposal:
    """Unset variables, in some contexts or everywhere. Raises NotResolved if one does not exist."""
    found = [item for item in variables.listing(registry, app.id) if item.name in names]
    found = [item for item in found if contexts is None or item.context in contexts]
    missing = [name for name in names if name not in {item.name for item in found}]
    if missing:
        near = nearest(missing[0], {item.name for item in variables.listing(registry, app.id)})
        raise NotResolved(
            f"{app.slug} has no variable {missing[0]!r} there", "List variables: provisioner var list", candidates=near
        )
    what = ", ".join(f"{item.name} in {item.context}" for item in found)

    def do(_: ProgressReporter) -> Iterator[str]:
        variables.unset(registry, app, found, now_ms())
        yield f"Unset {what} of {app.slug}"

    return Proposal(do, f"Unset {what} for {app.slug}? The values are deleted.")
