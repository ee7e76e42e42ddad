"""`provisioner events`: what happened, and what happens."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator

import click

from provisioner.cli import table
from provisioner.cli.commands.status import Interrupt
from provisioner.cli.common_options import colored
from provisioner.cli.context import json_option, looking, the_app, the_home
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.cli.standard_output import ReaderGone
from provisioner.cli.targets import load
from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved, UsageError, WrongRepository
from provisioner.core.moments import moment
from provisioner.core.naming import shown
from provisioner.jobs.event_documents import EventDocuments
from provisioner.operations.documents import Document
from provisioner.operations.events import follow, must_exist
from provisioner.operations.instance.names import find
from provisioner.registry import events as log
from provisioner.registry.store import Registry

LIMIT = 100
LOOK_SECONDS = 0.05


@click.command()
@target_argument()
@click.option("--all", "everything", is_flag=True, help="Events of every app, and of the home.")
@click.option("-f", "--follow", "keep_on", is_flag=True, help="Print events as they come, until Ctrl-C.")
@click.option("--since", metavar="MOMENT", help="Only events since then: 2h (ago), '2026-12-01 14:00', or RFC 3339.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Only this type. May be given several times.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="N events at most, then end. Default: 100, or with --follow all.",
)
@click.option("--cursor", type=click.IntRange(0), metavar="SEQ", help="Continue after the event with this number.")
@json_option
def events(
    wanted: NamedTarget,
    everything: bool,
    keep_on: bool,
    since: str | None,
    types: tuple[str, ...],
    limit: int | None,
    cursor: int | None,
    as_json: bool,
) -> None:
    """Show what happened, or follow it live.

    An event's number (seq) is the cursor that --cursor continues after: no event is missed, and none is repeated.

    --follow starts with what happens next, or with --since or --cursor.
    """
    with looking(not keep_on), Registry.open(the_home()) as registry:
        meant = _meant(registry, wanted, everything, types, since)
        if cursor is not None:
            must_exist(registry, cursor)
        if keep_on:
            _follow(registry, meant, cursor, limit, as_json)
            return
        last = log.last_seq(registry)
        most = limit or LIMIT
        if cursor is None:
            found, more = log.newest(registry, meant, most), False
        else:
            found = log.after(registry, cursor, last, meant, most + 1)
            found, more = found[:most], len(found) > most
        documents = map(EventDocuments(registry).of, found)
        _print(documents, as_json)
        if more:
            following = found[-1].seq
            click.echo(json.dumps({"cursor": following}) if as_json else f"cursor: {following}", err=True)


def _meant(
    registry: Registry, wanted: NamedTarget, everything: bool, types: tuple[str, ...], since: str | None
) -> log.EventFilter:
    if everything and wanted.narrowed:
        raise UsageError("--all and a target cannot be used together", "Omit one")
    at = None if since is None else moment(since, now_ms())
    slug = wanted.selectors.instance
    instance_id = None if slug is None else find(registry, slug).id
    if not wanted.names_timeline:
        app_id = None if everything else _app_id(registry, wanted.selectors.app)
        return log.EventFilter(app_id, None, instance_id, None, types, at)
    target = load(registry, wanted)
    database_id = target.own[0].id if target.named else None
    return log.EventFilter(target.app.id, target.timeline.id, instance_id, database_id, types, at)


def _app_id(registry: Registry, slug: str | None) -> str | None:
    """The app that is named or checked out here; None outside of a repository: every app."""
    try:
        return the_app(registry, slug).id
    except WrongRepository:
        raise
    except NotResolved:
        if slug is not None:
            raise
        return None


def _follow(registry: Registry, wanted: log.EventFilter, cursor: int | None, limit: int | None, as_json: bool) -> None:
    """Print events until interrupted, or until there were as many as the limit."""
    interrupt = Interrupt()
    if cursor is None:
        cursor = log.last_seq(registry) if wanted.since is None else log.seq_before(registry, wanted.since)

    def pause() -> None:
        interrupt.sleep(LOOK_SECONDS)
        if _reader_is_gone():
            raise ReaderGone

    printed = 0
    documents = EventDocuments(registry)
    try:
        for page in follow(registry, cursor, wanted, pause):
            for event in page[: None if limit is None else limit - printed]:
                document = documents.of(event)
                click.echo(json.dumps(document) if as_json else shown("  ".join(_cells(document))))
            printed += len(page)
            if limit is not None and printed >= limit:
                return
    except KeyboardInterrupt:
        return


def _reader_is_gone() -> bool:
    """Has the reader of a pipe closed it? A write would say so, but there may be none for long."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(what & (select.POLLERR | select.POLLNVAL) for _, what in poll.poll(0))


def _print(documents: Iterator[Document], as_json: bool) -> None:
    if as_json:
        for document in documents:
            click.echo(json.dumps(document))
        return
    columns = [
        *(table.Column("AT"), table.Column("TYPE"), table.Column("APP", dropped=2)),
        *(table.Column("TIMELINE"), table.Column("DATABASE", dropped=1), table.Column("DETAIL", dropped=3)),
    ]
    rows = [table.TableRow(tuple(map(shown, _cells(document)))) for document in documents]
    if not rows:
        click.echo("No events yet.", err=True)
        return
    for line in table.lines(columns, rows, width=table.room(sys.stdout), styled=colored(sys.stdout)):
        click.echo(line)


def _cells(document: Document) -> tuple[str, ...]:
    database = document["database"]
    why = document["error"] or document["detail"] or ""
    return (
        document["at"],
        document["type"],
        document["app"] or "-",
        document["timeline"] or "-",
        database["name"] if database else "-",
        f"{document['cause']}: {why}" if why else document["cause"],
    )
