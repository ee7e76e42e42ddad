"""Declaring that the server of an instance was wiped, so that databases that are not there count as lost."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted, verb
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Instance
from provisioner.engines.catalog import engine_of
from provisioner.operations.instance.names import must_stay
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.apply.lost_data import place_unknown
from provisioner.registry.instances import held_on
from provisioner.registry.store import Registry


def wiped(registry: Registry, instance: Instance) -> Proposal:
    """Let a server that has nothing of an instance count as the instance's own. This discards nothing: each database that
    is not there is then reset or purged on its own. Raises ProvisionerError if the server has stored the instance."""
    must_stay(instance)
    if place_unknown(registry, instance) is None:
        raise ProvisionerError(
            f"{instance.location} was not wiped, or does not answer: nothing was changed",
            f"See: provisioner instance test {instance.slug}",
        )

    count = len(held_on(registry, instance.id))

    def do(_: ProgressReporter) -> Iterator[str]:
        engine_of(instance).mark(instance, registry.home_id())
        registry.record(now_ms(), "instance.wiped", registry.who, detail=f"{instance.slug} on {instance.location}")
        yield f"{instance.location} is the server of {instance.slug} again, and has none of its data"
        yield "Start each database empty, or discard it: provisioner database reset NAME, provisioner database purge NAME"

    lost = f"{counted(count, 'database')} {verb(count, 'is', 'are')} lost"
    question = f"Declare {instance.location} the wiped server of {instance.slug}? Then {lost}."
    return Proposal(do, question, typed=instance.slug)
