"""`provisioner database share` and `unshare`: one database that several timelines use deliberately."""

from __future__ import annotations

import click

from provisioner.cli.change import change, planned
from provisioner.cli.context import dry_run_option, json_option, the_home, yes_option
from provisioner.cli.selectors import HERE, NamedTarget, parse, selector_options, target_argument
from provisioner.cli.targets import load, load_timeline
from provisioner.cli.terminal import carry_out
from provisioner.environment.resolve import Selectors
from provisioner.operations import shares
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="[TO]", default=HERE)
@selector_options("app", "instance")
@dry_run_option
@yes_option
@json_option
def share(source: str, target: str, selectors: Selectors, yes: bool, as_json: bool) -> None:
    """Let timeline TO use FROM's database.

    TO's own databases are archived; 'unshare' recovers them. Each is a branch or a timeline; TO is by
    default the branch that is checked out here.
    """
    with Registry.open(the_home()) as registry:
        sharer = load(registry, parse(target, selectors))
        owner = load(registry, parse(source, selectors), sharer.app)
        document = change(registry, "share", sharer.app, sharer.timeline) if as_json else None
        plan = planned(registry, "share", sharer.app, sharer.live)
        carry_out(shares.share(registry, sharer.app, owner, sharer), yes=yes, document=document, plan=plan)


@click.command()
@target_argument()
@json_option
def unshare(wanted: NamedTarget, as_json: bool) -> None:
    """Stop sharing and give TO its own database again.

    TARGET is a branch or a timeline; by default, the branch that is checked out here.
    """
    with Registry.open(the_home()) as registry:
        app, sharer = load_timeline(registry, wanted)
        slug = wanted.selectors.instance
        document = change(registry, "unshare", app, sharer) if as_json else None
        on = find(registry, slug) if slug is not None else None
        carry_out(shares.unshare(registry, app, sharer, on), document=document)
