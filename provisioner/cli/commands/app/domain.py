"""`provisioner app domain`: custom domains, each of which leads to one timeline's app."""

from __future__ import annotations

import os

import click

from provisioner.cli.context import (
    apps_meant,
    confirm,
    dry_run_option,
    json_option,
    looks,
    plan_item,
    say,
    the_home,
    yes_option,
)
from provisioner.cli.groups import AliasedGroup
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list
from provisioner.cli.selectors import TIMELINE, NamedTarget, selector_options
from provisioner.cli.table import Column
from provisioner.cli.targets import load_timeline
from provisioner.core.custom_domains import CustomDomain, parse_domain
from provisioner.core.errors import NotResolved
from provisioner.core.naming import PRODUCTION
from provisioner.environment.resolve import Selectors
from provisioner.hosting import custom_domains as domains
from provisioner.operations.documents import Document
from provisioner.registry.hosting import custom_domain
from provisioner.registry.queries import timeline_by_id
from provisioner.registry.store import Registry

trust_option = click.option("--trust", is_flag=True, help="Verify the domain on your word, without a DNS record.")


@click.group(cls=AliasedGroup, aliases={"delete": "remove"})
def domain() -> None:
    """Manage custom domains, which lead to a timeline's app."""


@domain.command()
@click.argument("name", metavar="DOMAIN")
@selector_options(*TIMELINE)
@trust_option
@json_option
def add(name: str, selectors: Selectors, trust: bool, as_json: bool) -> None:
    """Add a domain to production, or to another timeline.

    Without --trust, requests reach it only after 'provisioner app domain verify' has found its TXT record.
    """
    if not NamedTarget(selectors).by_selector:
        selectors = Selectors(selectors.app, timeline=os.fsdecode(PRODUCTION))
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, NamedTarget(selectors))
        _say(registry, domains.add(registry, app, timeline, name, trust=trust).name, as_json)


@domain.command()
@click.argument("name", metavar="DOMAIN")
@click.option("--nameserver", metavar="ADDRESS", default="", help="Ask this DNS server. Default: the system's.")
@trust_option
@json_option
def verify(name: str, nameserver: str, trust: bool, as_json: bool) -> None:
    """Look for a domain's TXT record, and route the domain."""
    with Registry.open(the_home()) as registry:
        found = domains.verify(registry, name, trust=trust, nameserver=nameserver)
        _say(registry, found.name, as_json)


@domain.command()
@click.argument("name", metavar="DOMAIN")
@dry_run_option
@yes_option
@json_option
def remove(name: str, yes: bool, as_json: bool) -> None:
    """Remove a domain, and refuse requests for it from now on."""
    with Registry.open(the_home()) as registry:
        claim = custom_domain(registry, parse_domain(name))
        document = None if claim is None else domains.state(registry, claim).document()
        if claim is not None:
            question = f"Remove domain {claim.name}? Requests for it are refused from then on."
            confirm(question, yes, [_plan(registry, claim)])
        removed = domains.remove(registry, name)
        say(f"Removed domain {removed.name}", document if as_json else None)


def _plan(registry: Registry, claim: CustomDomain) -> Document:
    """What a dry run prints."""
    timeline = timeline_by_id(registry, claim.timeline_id)
    name = None if timeline is None else os.fsdecode(timeline.name)
    return plan_item("remove-domain", registry.app(claim.app_id), name)


_LAYOUT = ListLayout(
    (Column("DOMAIN"), Column("APP", dropped=2), Column("TIMELINE"), Column("STATE"), Column("PROBLEM", dropped=1)),
    ("domain",),
    lambda item: {
        "DOMAIN": item["domain"],
        "APP": item["app"],
        "TIMELINE": item["timeline"],
        "STATE": "routed" if item["routed"] else "ended" if item["ended_at"] else "not routed",
        "PROBLEM": item["problem"] or "",
    },
    "No domains yet. To add one, run: provisioner app domain add DOMAIN",
)


@domain.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the app for the current directory, or all.")
@click.option("--all", "everything", is_flag=True, help="List the domains of all apps, including removed ones.")
@list_options
@looks
def list_domains(slug: str | None, everything: bool, listing: ListOptions) -> None:
    """List domains with their timeline and state."""
    with Registry.open(the_home()) as registry:
        apps = [None] if everything else apps_meant(registry, slug, False)
        found = [each.document() for app in apps for each in domains.states(registry, app)]
        print_list(found, _LAYOUT, listing)


def _say(registry: Registry, name: str, as_json: bool) -> None:
    claim = custom_domain(registry, name)
    if claim is None:
        raise NotResolved(
            f"domain {name} was removed at this moment", f"Add it again: provisioner app domain add {name}"
        )
    found = domains.state(registry, claim)
    text = f"{found.url} leads to {found.timeline} of {found.app}"
    if found.problem:
        text = f"{claim.name} will lead to {found.timeline} of {found.app}: {found.problem}"
    say(text, found.document() if as_json else None)
