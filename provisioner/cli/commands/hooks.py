"""`provisioner hooks`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from provisioner.cli.commands.app.group import hooks_are_shared
from provisioner.cli.common_options import note
from provisioner.cli.context import json_option, looks, print_json, say, the_app, the_home
from provisioner.cli.selectors import object_argument
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.environment.resolve import here
from provisioner.git import hooks as git_hooks
from provisioner.git.worktree import Checkout, find_checkout
from provisioner.reconcile.repository_identity import must_be_its_own
from provisioner.registry.store import Registry


@click.group()
def hooks() -> None:
    """Manage the git hooks that report branch changes."""


def _place(registry: Registry, app: App) -> Checkout:
    """The current checkout if it is the app's, because its hooks path may be relative to it. Else the app's repository."""
    must_be_its_own(registry, app)
    checkout = find_checkout(here())
    ours = checkout is not None and checkout.common_dir == app.git_dir
    place = checkout if ours else find_checkout(app.git_dir)
    if place is None:
        raise ProvisionerError(
            f"the repository {os.fsdecode(app.git_dir)} is gone",
            f"If it has moved, run: provisioner app set {app.slug} --repository PATH",
        )
    return place


_app = object_argument("slug", "app", required=False)


def _document(found: Sequence[git_hooks.HookStatus]) -> list[dict[str, object]]:
    return [{"hook": h.name, "path": h.path, "state": str(h.state), "keeps_another": h.kept} for h in found]


def _print(found: Sequence[git_hooks.HookStatus], as_json: bool) -> None:
    if as_json:
        print_json(_document(found))
        return
    for hook in found:
        click.echo(shown(f"{hook.name}: {hook.state} ({hook.path})"))


@hooks.command()
@_app
@json_option
def install(slug: str | None, as_json: bool) -> None:
    """Install or update the hooks and keep existing ones.

    Existing hooks are kept and still run.
    """
    home = the_home()
    with Registry.open(home) as registry:
        app = the_app(registry, slug)
        place = _place(registry, app)
        _print(git_hooks.install(place.common_dir, place.top, app.id, home.path), as_json)
        if hint := git_hooks.within(sys.prefix, place.top):
            note(f"provisioner: {shown(hint)}")


@hooks.command()
@_app
@json_option
def uninstall(slug: str | None, as_json: bool) -> None:
    """Remove the hooks and restore the previous ones exactly."""
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        place = _place(registry, app)
        git_hooks.uninstall(place.common_dir, place.top, registry.home.path, shared=hooks_are_shared(registry, app))
        left = git_hooks.status(place.common_dir, place.top, registry.home.path)
        say(f"{app.slug}: removed the hooks", _document(left) if as_json else None)


@hooks.command()
@_app
@json_option
@looks
def status(slug: str | None, as_json: bool) -> None:
    """Show which hooks are installed.

    Exit code 1 if one is missing.
    """
    home = the_home()
    with Registry.open(home) as registry:
        app = the_app(registry, slug)
        place = _place(registry, app)
        found = git_hooks.status(place.common_dir, place.top, home.path)
    _print(found, as_json)
    if any(hook.state is not git_hooks.HookState.INSTALLED for hook in found):
        raise ProvisionerError("a hook is missing", "Run 'provisioner hooks install', or 'provisioner watch'")
