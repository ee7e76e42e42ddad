"""`provisioner app run`, `start`, `stop`, `rollback`, `lock`, `unlock`, and `redeploy`: the app that runs for a timeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from provisioner.cli.change import timeline_after
from provisioner.cli.context import json_option, the_app, the_home, yes_option
from provisioner.cli.options.duration import OR_NEVER
from provisioner.cli.selectors import TIMELINE, NamedTarget, object_argument, selector_options
from provisioner.cli.targets import load_timeline
from provisioner.cli.terminal import carry_out
from provisioner.core.errors import UsageError
from provisioner.core.model import App, Timeline
from provisioner.core.sizes import size
from provisioner.environment.resolve import Selectors
from provisioner.operations.documents import Document
from provisioner.operations.hosting import run_settings, timeline_app
from provisioner.operations.proposal import Proposal
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "app", required=False)
@click.option("--command", metavar="CMD", help="The shell command that starts it. It listens on the port in PORT.")
@click.option("--install", metavar="CMD", help="The command that installs what it needs.")
@click.option("--build", metavar="CMD", help="The command that builds it.")
@click.option("--directory", metavar="DIR", help="The directory in the repository where the commands run.")
@click.option("--health", metavar="PATH", help="The path that must answer with success before the app gets requests.")
@click.option("--idle", type=OR_NEVER, help="Stop a branch's app after this long without a request. Default: 15min.")
@click.option("--from-repository", is_flag=True, help="Read the commands from deno.json, Procfile, or package.json.")
@click.option("--public/--private", "public", default=None, help="Let anyone open its URLs, or only users who sign in.")
@click.option(
    "--unfenced/--fenced", "unfenced", default=None, help="Start it even if no sandbox keeps it from this home's files."
)
@click.option("--memory", metavar="SIZE", help="The memory limit of all its processes. Default: 1GiB.")
@click.option("--no-command", is_flag=True, help="Stop running the app.")
@yes_option
@json_option
def run(
    slug: str | None,
    command: str | None,
    install: str | None,
    build: str | None,
    directory: str | None,
    health: str | None,
    idle: str | None,
    from_repository: bool,
    public: bool | None,
    unfenced: bool | None,
    memory: str | None,
    no_command: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Set how the app is built and started.

    From then on, each timeline has a URL. The app gets its timeline's environment, PORT, and HOST. It is started by
    'provisioner up'.
    """
    settings = run_settings.RunSettings(
        command=command,
        install=install,
        build=build,
        directory=directory,
        health=health,
        idle=idle,
        from_repository=from_repository,
        public=public,
        unfenced=unfenced,
        memory=None if memory is None else size(memory),
    )
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        if no_command and settings != run_settings.RunSettings():
            raise UsageError("--no-command cannot be used with other options", "Choose one")
        proposal = (
            run_settings.set_no_run(registry, app) if no_command else run_settings.set_run(registry, app, settings)
        )

        def document(_: object) -> Document:
            return {"app": app.slug, "run": run_settings.run_document(registry, app)}

        carry_out(proposal, yes=yes, document=document if as_json else None)


@click.command()
@selector_options(*TIMELINE)
@json_option
def start(selectors: Selectors, as_json: bool) -> None:
    """Start a timeline's app, or try again after a failure."""
    _change(selectors, timeline_app.start, as_json)


@click.command()
@selector_options(*TIMELINE)
@yes_option
@json_option
def stop(selectors: Selectors, yes: bool, as_json: bool) -> None:
    """Stop a timeline's app until it is started again."""
    _change(selectors, timeline_app.stop, as_json, yes=yes)


@click.command()
@selector_options(*TIMELINE)
@json_option
def redeploy(selectors: Selectors, as_json: bool) -> None:
    """Build a timeline's revision again and start it."""
    _change(selectors, timeline_app.redeploy, as_json)


@click.command()
@click.argument("commit", required=False)
@selector_options(*TIMELINE)
@json_option
def rollback(commit: str | None, selectors: Selectors, as_json: bool) -> None:
    """Go back to a revision and stay there.

    Default: the last healthy revision before the one that runs. 'provisioner app unlock' follows the branch again.
    """
    _change(selectors, partial(timeline_app.roll_back, commit=commit), as_json)


@click.command()
@click.argument("commit", required=False)
@selector_options(*TIMELINE)
@json_option
def lock(commit: str | None, selectors: Selectors, as_json: bool) -> None:
    """Keep a timeline's app at a revision, whatever is pushed.

    Default: the revision that runs.
    """
    _change(selectors, partial(timeline_app.lock, commit=commit), as_json)


@click.command()
@selector_options(*TIMELINE)
@json_option
def unlock(selectors: Selectors, as_json: bool) -> None:
    """Let a timeline's app follow its branch again."""
    _change(selectors, timeline_app.unlock, as_json)


def _change(
    selectors: Selectors, propose: Callable[[Registry, App, Timeline], Proposal], as_json: bool, *, yes: bool = False
) -> None:
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, NamedTarget(selectors))
        document = timeline_after(registry, app, timeline) if as_json else None
        carry_out(propose(registry, app, timeline), yes=yes, document=document)
