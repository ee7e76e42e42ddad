"""Prompts and progress, with or without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from provisioner.cli.change import Describe
from provisioner.cli.common_options import explain, note
from provisioner.cli.context import confirm, end_dry_run, print_json
from provisioner.core.counts import counted
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.operations.documents import Document
from provisioner.operations.proposal import STEPS, Proposal, Warned
from provisioner.reconcile.apply.step_result import Progress


class Terminal:
    """Reports long work on standard error: with moving counts on a terminal, else line by line."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        if isinstance(line, Warned):
            self.warnings.append(line)
        explain(f"after {time.monotonic() - self._began:.2f} s:")
        note(line)

    def stopping(self) -> bool:
        return False

    @contextmanager
    def reconciling(self, app: App, *, steps: bool) -> Iterator[Progress | None]:
        if not sys.stderr.isatty():
            yield _in_lines(app) if steps else None
            return
        from rich.console import Console
        from rich.progress import Progress as Bars
        from rich.progress import TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
        with Bars(*columns, console=console, transient=True) as bars:
            tasks: dict[str, object] = {}

            def advance(verb: str, count: int) -> None:
                if verb not in tasks:
                    tasks[verb] = bars.add_task(f"{app.slug}: {verb}", total=None)
                bars.advance(tasks[verb], count)  # type: ignore[arg-type]

            yield advance


def _in_lines(app: App) -> Progress:
    done: dict[str, int] = {}

    def advance(verb: str, count: int) -> None:
        done[verb] = done.get(verb, 0) + count
        if count:
            note(f"{app.slug}: {STEPS.get(verb, verb)} {counted(done[verb], 'database')}")

    return advance


TERMINAL = Terminal()


def carry_out(
    proposal: Proposal, *, yes: bool = False, document: Describe | None = None, plan: Sequence[Document] = ()
) -> None:
    """Ask, unless `yes`, and do it. Print what was done, or the JSON `document` of it.

    Ends a dry run of this `plan`. Raises NotConfirmed if the answer is not yes.
    """
    end_dry_run(proposal.question, plan, proposal.details)
    for line in proposal.details:
        click.echo(shown(line), err=document is not None)
    if proposal.question:
        confirm(proposal.question, yes, typed=proposal.typed)
    with _timed():
        _do(proposal, document)


@contextmanager
def _timed() -> Iterator[None]:
    """With --verbose, how long the block has taken."""
    began = time.monotonic()
    yield
    explain(f"took {time.monotonic() - began:.2f} s")


def _do(proposal: Proposal, document: Describe | None) -> None:
    if document is not None:
        heard = Terminal()
        lines = list(proposal.do(heard))
        print_json(document([*heard.warnings, *lines]))
        return
    for line in proposal.do(TERMINAL):
        click.echo(shown(line))
