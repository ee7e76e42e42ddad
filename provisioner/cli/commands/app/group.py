"""`provisioner app`: the registered repositories."""

from __future__ import annotations

import os
from contextlib import suppress

import click

from provisioner.cli.change import planned
from provisioner.cli.commands.app import domain as app_domain
from provisioner.cli.commands.app import run as app_run
from provisioner.cli.context import (
    confirm,
    dry_run_option,
    json_option,
    looks,
    print_json,
    the_app,
    the_home,
    yes_option,
)
from provisioner.cli.groups import AliasedGroup
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list
from provisioner.cli.options.deploy_options import deploying_options
from provisioner.cli.options.duration import DURATION, OR_NEVER
from provisioner.cli.options.hook_options import hook_options
from provisioner.cli.registration import PRODUCTION_HELP, registered
from provisioner.cli.selectors import object_argument
from provisioner.cli.table import Column
from provisioner.cli.terminal import carry_out
from provisioner.core import naming
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.counts import counted
from provisioner.core.durations import written
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.environment import env_files
from provisioner.git import hooks
from provisioner.git.command import must_be_trusted
from provisioner.git.worktree import find_checkout
from provisioner.hosting import custom_domains
from provisioner.hosting.router.access import PreviewAccess
from provisioner.operations import documents as view
from provisioner.operations.apps import Deploying, change
from provisioner.operations.hosting import run_settings
from provisioner.operations.repositories import leave
from provisioner.reconcile.changes.command_access import described
from provisioner.reconcile.controller import archive_all
from provisioner.reconcile.repository_identity import wrong
from provisioner.registry.events import HOOKS
from provisioner.registry.events import hooks as operator_hooks
from provisioner.registry.store import Registry
from provisioner.system import inbox


@click.group(cls=AliasedGroup, aliases={"edit": "set", "delete": "remove"})
def app() -> None:
    """Manage apps: repositories whose branches get databases."""


@app.command(name="add")
@click.argument("path", default=".")
@click.option("--name", metavar="APP", help="Default: the directory's name.")
@click.option("--production-branch", metavar="BRANCH", help=PRODUCTION_HELP)
@click.option("--grace", type=DURATION, help="Archive this long after a branch is gone. Default: 10s.")
@click.option("--retention", type=DURATION, help="Keep archived databases this long. Default: 7d.")
@json_option
def add(
    path: str, name: str | None, production_branch: str | None, grace: str | None, retention: str | None, as_json: bool
) -> None:
    """Register a repository without hooks or an instance."""
    with Registry.open(the_home(), create=True) as registry:
        registry.organization()
        added = registered(registry, path, name, production_branch, grace, retention)
        inbox.leave(registry.home.inbox, added.id)
        if as_json:
            print_json(app_document(registry, added))
            return
        click.echo(f"Added app {added.slug}. To assign an instance, run: provisioner assign INSTANCE {added.slug}")


def app_document(registry: Registry, app: App) -> view.Document:
    assigned = registry.assigned(app.id)
    modes = registry.connect_modes(app.id)
    scrubs = registry.scrubs(app.id)
    commands = operator_hooks(registry, app.id)
    return {
        "id": app.id,
        "app": app.slug,
        "repository": os.fsdecode(app.git_dir),
        "production_branch": os.fsdecode(app.production),
        "grace_ms": app.grace_ms,
        "retention_ms": app.retention_ms,
        "expire_ms": app.expire_ms,
        "pre_deploy": app.pre_deploy or None,
        "pre_deploy_from": app.pre_deploy_from or None,
        "pre_deploy_timeout_ms": app.pre_deploy_ms,
        "pre_deploy_copies": str(app.pre_deploy_copies),
        "pre_deploy_inputs": list(app.pre_deploy_inputs),
        "snapshot_revisions": app.snapshot_revisions,
        "commands": described(app)[1],
        "sandbox": app.sandbox,
        "run_as": app.run_as or None,
        "unix_sockets": app.unix_sockets,
        "allow_read": list(app.allow_read),
        "allow_write": list(app.allow_write),
        "checkout_files": app.checkout_files,
        "checkout_bytes": app.checkout_bytes,
        "max_branches": app.max_branches,
        **{kind.replace("-", "_"): commands.get(kind) for kind in HOOKS},
        "scrub": {instance.slug: scrubs[instance.id].command for instance in assigned if instance.id in scrubs},
        "instances": [instance.slug for instance in assigned],
        "connect": {instance.slug: str(modes[instance.id]) for instance in assigned},
        "run": run_settings.run_document(registry, app),
        "domains": {each.claim.name: each.timeline + _unrouted(each) for each in custom_domains.states(registry, app)},
        "created_at": rfc3339(app.created_at),
    }


def _unrouted(found: custom_domains.DomainState) -> str:
    return "" if not found.problem else " (ended)" if found.claim.ended_at is not None else " (not routed)"


_LAYOUT = ListLayout(
    (Column("APP"), Column("REPOSITORY", dropped=2), Column("PRODUCTION"), Column("INSTANCES", dropped=1)),
    ("app",),
    lambda item: {
        "APP": item["app"],
        "REPOSITORY": item["repository"],
        "PRODUCTION": item["production_branch"],
        "INSTANCES": ", ".join(item["instances"]),
    },
    "No apps yet. An app is a git repository. In yours, run: provisioner init",
)


@app.command(name="list")
@list_options
@looks
def list_apps(listing: ListOptions) -> None:
    """List apps with their repository and production branch."""
    with Registry.open(the_home()) as registry:
        print_list([app_document(registry, app) for app in registry.apps()], _LAYOUT, listing)


@app.command()
@object_argument("slug", "app", required=False)
@json_option
@looks
def show(slug: str | None, as_json: bool) -> None:
    """Show an app.

    Default: the app for the current directory.
    """
    with Registry.open(the_home()) as registry:
        document = app_document(registry, the_app(registry, slug))
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if value not in (None, "", [], {}):
            name, text = _for_people(key, value)
            click.echo(shown(f"{name}: {text}"))


def _for_people(key: str, value: object) -> tuple[str, str]:
    """A setting's name and value as people write them: durations and sizes with their units."""
    if key.endswith("_ms") and isinstance(value, int):
        return key.removesuffix("_ms").replace("_", " "), written(value)
    if key.endswith("_bytes") and isinstance(value, int):
        return key.removesuffix("_bytes").replace("_", " "), view.size_text(value)
    return key.replace("_", " "), _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {what}" for name, what in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


@app.command(name="set")
@object_argument("slug", "app", required=False)
@click.option("--name", metavar="NAME", help="A new name. Databases keep theirs.")
@click.option("--production-branch", metavar="BRANCH", help="The branch whose pushes go to the production timeline.")
@click.option("--grace", type=DURATION, help="Archive this long after a branch is gone.")
@click.option("--retention", type=DURATION, help="Keep archived databases this long.")
@click.option(
    "--expire-after",
    type=OR_NEVER,
    help="Archive a branch's databases this long after its last push, unless its timeline has its own setting.",
)
@click.option("--repository", metavar="PATH", help="The repository's new location, if it has moved.")
@deploying_options
@hook_options
@yes_option
@json_option
def set_app(
    slug: str | None,
    name: str | None,
    production_branch: str | None,
    grace: str | None,
    retention: str | None,
    expire_after: str | None,
    repository: str | None,
    deploying: Deploying,
    hooks: dict[str, str],
    yes: bool,
    as_json: bool,
) -> None:
    """Change an app's settings.

    The production timeline keeps its data when its branch changes.
    """
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        git_dir = None
        if repository is not None:
            checkout = find_checkout(os.fsencode(repository))
            if checkout is None:
                raise ProvisionerError(
                    f"{repository} is not a git repository", "Use --repository with its new location"
                )
            must_be_trusted(checkout.top or checkout.common_dir)
            git_dir = checkout.common_dir
        name = naming.parse_slug(name, "an app") if name else None
        proposal = change(
            registry,
            app,
            name=name,
            production=production_branch,
            grace=grace,
            retention=retention,
            expire_after=expire_after,
            git_dir=git_dir,
            deploying=deploying,
            hooks=hooks,
        )
        carry_out(proposal, yes=yes, document=(lambda _: _now(registry, app)) if as_json else None)


def _now(registry: Registry, app: App) -> view.Document:
    return app_document(registry, registry.app(app.id) or app)


@app.command()
@object_argument("slug", "app", required=False)
@dry_run_option
@yes_option
@json_option
def remove(slug: str | None, yes: bool, as_json: bool) -> None:
    """Remove an app and its hooks, and archive its databases.

    To recover them, run 'provisioner init' in the same repository.
    """
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        live = [database for database in registry.databases(app.id) if database.live]
        was = app_document(registry, app)
        confirm(
            f"Remove app {app.slug} and archive its {counted(len(live), 'database')}?",
            yes,
            planned(registry, "archive", app, live),
            typed=app.slug,
        )
        own = os.path.isdir(app.git_dir) and wrong(registry, app) is None
        checkout = find_checkout(app.git_dir) if own else None
        if checkout is not None:
            hooks.uninstall(
                checkout.common_dir, checkout.top, registry.home.path, shared=hooks_are_shared(registry, app)
            )
        for instance in registry.assigned(app.id):
            registry.unassign(instance, app, now_ms())
        archive_all(registry, app, now_ms(), "its app was removed")
        env_files.forget_app(registry.home, app.id, app.git_dir)
        PreviewAccess(registry.home).forget_app(app.id)
        registry.remove_app(app, now_ms())
        if checkout is not None:
            with suppress(OSError):
                leave(app, checkout.common_dir)
        if as_json:
            print_json(was)
            return
        click.echo(f"Removed app {app.slug}. Its databases are archived; 'provisioner init' there recovers them")


def hooks_are_shared(registry: Registry, app: App) -> bool:
    """Whether another app of this home has its hooks in the same directory."""
    mine = _hooks_directory(app)
    return any(_hooks_directory(other) == mine for other in registry.apps() if other.id != app.id)


def _hooks_directory(app: App) -> bytes | None:
    try:
        checkout = find_checkout(app.git_dir)
        return hooks.hooks_directory(checkout.common_dir, checkout.top) if checkout else None
    except ProvisionerError:
        return None


for _command in (
    app_run.run,
    app_run.start,
    app_run.stop,
    app_run.redeploy,
    app_run.rollback,
    app_run.lock,
    app_run.unlock,
    app_domain.domain,
):
    app.add_command(_command)
