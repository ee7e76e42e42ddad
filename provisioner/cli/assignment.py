"""`provisioner assign` and `provisioner unassign`."""

from __future__ import annotations

import click

from provisioner.cli.instances.finding import find, successor
from provisioner.cli.reconcile import run, run_whole
from provisioner.cli.scrub_options import scrub_options
from provisioner.cli.shared import confirm, the_app, the_home, yes_option
from provisioner.clock import now_ms
from provisioner.errors import ProvisionerError
from provisioner.model import ConnectMode
from provisioner.naming import shown
from provisioner.reconcile.origins import EMPTY, FORK, named
from provisioner.registry.store import Registry


def _new_branch(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and value != EMPTY and not value.removeprefix(FORK).strip():
        raise click.BadParameter("which branch? fork:production, fork:parent or fork:BRANCH")
    if value is not None and value != EMPTY and not value.startswith(FORK):
        raise click.BadParameter("empty, fork:production, fork:parent or fork:BRANCH")
    return value


@click.command()
@click.argument("instance")
@click.argument("app", required=False)
@click.option(
    "--new-branch",
    metavar="empty|fork:production|fork:parent|fork:BRANCH",
    callback=_new_branch,
    help="What the database of a new branch begins with. Its parent is the branch it was made from; where git does not"
    " tell, it begins empty. Default: as it is; empty.",
)
@click.option(
    "--connect",
    "mode",
    type=click.Choice([str(mode) for mode in ConnectMode]),
    help="What apps get: the file, the server's URL, or auto, the URL while a server is up. Default: as it is; auto.",
)
@scrub_options
def assign(
    instance: str, app: str | None, mode: str | None, new_branch: str | None, scrub: str | None, limit_ms: int | None
) -> None:
    """Attach INSTANCE to APP: every timeline gets a database there. Re-assigning brings the old data back."""
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        assigned = find(registry, instance)
        connect = ConnectMode(mode) if mode else None
        registry.assign(assigned, chosen, now_ms(), connect, new_branch, scrub=scrub, scrub_ms=limit_ms)
        click.echo(f"{chosen.slug}: provisioning every timeline on {assigned.slug}", err=True)
        run_whole(registry, chosen, "assign", lines=True)
        live = [database for database in registry.databases(chosen.id) if database.live]
        connected = sum(database.status == "connected" for database in live)
        how = registry.connect_modes(chosen.id)[assigned.id]
        click.echo(f"{chosen.slug}: {connected} of {len(live)} databases connected, {how}")
        begins = registry.new_branches(chosen.id)[assigned.id]
        if begins != EMPTY:
            click.echo(f"{chosen.slug}: the database of a new branch is a {begins.replace(FORK, 'fork of ')}")
        timelines = {timeline.id: timeline.branch for timeline in registry.timelines(chosen.id) if not timeline.preview}
        known = {timelines[database.timeline_id] for database in live if database.timeline_id in timelines}
        source = named(begins, known)
        if source is not None and source not in known:
            name = shown(source)
            click.echo(
                f"{chosen.slug}: there is no branch {name} now: until there is, new databases begin empty", err=True
            )
        rule = registry.scrubs(chosen.id).get(assigned.id)
        if rule is not None:
            click.echo(shown(f"{chosen.slug}: copies have to pass, within {rule.limit_ms / 1000:g} s: {rule.command}"))
        failed = next((database for database in live if database.error), None)
        if failed is not None:
            raise ProvisionerError(f"{failed.name}: {failed.error}", "Then run: provisioner database fix --all")


@click.command()
@click.argument("instance")
@click.argument("app", required=False)
@yes_option
def unassign(instance: str, app: str | None, yes: bool) -> None:
    """Detach INSTANCE from APP: its databases are archived and kept; nothing is injected any more."""
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        leaving = find(registry, instance)
        heir = successor(registry, chosen, leaving)
        then = f"; Deno.openKv() opens the databases of {heir} from then on" if heir else ""
        confirm(f"Take {instance} away from {chosen.slug}? Its data is kept{then}", yes)
        registry.unassign(leaving, chosen, now_ms())
        run(registry, chosen, "unassign")
        click.echo(f"{chosen.slug}: {instance} is no longer assigned; 'provisioner assign' brings its data back{then}")
