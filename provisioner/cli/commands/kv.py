"""`provisioner kv`: read and change a timeline's key-value database."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from provisioner.cli import standard_input
from provisioner.cli.common_options import note, settings
from provisioner.cli.context import (
    confirm,
    dry_run_option,
    json_option,
    plan_item,
    renamed,
    the_app,
    the_home,
    yes_option,
)
from provisioner.cli.options.duration import DURATION
from provisioner.cli.selectors import ALL, selector_options
from provisioner.core.connection import TimelineConnection
from provisioner.core.counts import counted, verb
from provisioner.core.durations import milliseconds
from provisioner.core.errors import NotReady, ProvisionerError, UsageError
from provisioner.core.naming import shown
from provisioner.environment.resolve import KEYED, Selectors, here, keyed_instance, resolve
from provisioner.kv import Kv, KvEntry, KvError, Malformed
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.codec import json_notation
from provisioner.kv.codec.key import encode, point
from provisioner.kv.errors import CursorInvalid, KeyInvalid, OptionInvalid, ValueInvalid
from provisioner.kv.model import Mutation, MutationKind
from provisioner.kv.store import Store

if TYPE_CHECKING:
    from provisioner.kv.dump.prefix_deletion import DeletionStopped

_Command = TypeVar("_Command", bound=Callable[..., Any])

raw_option = click.option("--raw", is_flag=True, help="Plain text or bytes instead of JSON.")


@click.group()
def kv() -> None:
    """Read and write a timeline's key-value database.

    A KEY is a JSON array, for example '["users", 1]'. Values that JSON lacks are {"$bigint": "5"}, {"$u64": "5"},
    {"$bytes": "AAE="} (base64), {"$number": "NaN"}, {"$date": "2026-01-02T03:04:05Z"}.
    """


def kv_errors(command: _Command) -> _Command:
    """Turn the library's refusals into errors of the command line."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (KeyInvalid, ValueInvalid, OptionInvalid, CursorInvalid) as error:
            raise UsageError(str(error)) from error
        except KvError as error:
            raise ProvisionerError(str(error)) from error

    return wrapped  # type: ignore[return-value]


@contextmanager
def _connected(selectors: Selectors) -> Iterator[tuple[TimelineConnection, Store]]:
    """The timeline and the Deno KV database that the selectors name, opened the way an app opens it."""
    home, directory = the_home(), here()
    selectors.instance = keyed_instance(home, selectors, directory)
    connection, values = resolve(home, selectors, directory, os.environ)
    token = values.get("DENO_KV_ACCESS_TOKEN")
    with closing(open_store(values["DENO_KV_DEFAULT_PATH"], access_token=token)) as store:
        yield connection, store


@contextmanager
def _opened(selectors: Selectors) -> Iterator[Kv]:
    with _connected(selectors) as (_, store), Kv(store, ordered=True) as opened:
        yield opened


@kv.command()
@selector_options(*ALL)
@json_option
@raw_option
@click.argument("key")
@kv_errors
def get(key: str, as_json: bool, raw: bool, selectors: Selectors) -> None:
    """Print the value of KEY.

    Exit code 1 if there is none; --json then prints nulls.
    """
    with _opened(selectors) as opened:
        entry = opened.get(json_notation.key_of(key))
    if as_json:
        click.echo(json_notation.text_of(json_notation.entry_to_json(entry)))
    elif entry.versionstamp is None:
        raise ProvisionerError(f"nothing is stored under {key}", "List the keys: provisioner kv list")
    elif raw:
        sys.stdout.buffer.write(_raw(entry.value))
    else:
        click.echo(json_notation.text_of(json_notation.to_json(entry.value)))


def _raw(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    raise UsageError(f"a {type(value).__name__} has no raw form", "Omit --raw")


@kv.command("set")
@selector_options(*ALL)
@json_option
@raw_option
@click.option("--expires-in", type=DURATION, help="Delete it this long after now, for example 90s or 12h.")
@click.option("--expire-in", type=click.IntRange(0), metavar="MS", hidden=True)
@click.argument("key")
@click.argument("value")
@kv_errors
def set_command(
    key: str,
    value: str,
    as_json: bool,
    raw: bool,
    expires_in: str | None,
    expire_in: int | None,
    selectors: Selectors,
) -> None:
    """Set KEY to VALUE, as JSON or (with --raw) as text.

    A VALUE of '-' is read from standard input.
    """
    if expires_in is not None and expire_in is not None:
        raise UsageError("--expires-in and --expire-in cannot be used together", "Use --expires-in")
    if expire_in is not None:
        renamed("--expire-in MS", "--expires-in DURATION")
    lasts = expire_in if expires_in is None else milliseconds(expires_in)
    text = standard_input.value("a value", "Use '\"\"' for an empty text") if value == "-" else value
    parsed = text if raw else json_notation.value_of(text)
    with _opened(selectors) as opened:
        result = opened.set(json_notation.key_of(key), parsed, expire_in=lasts)
    if as_json:
        click.echo(json_notation.text_of({"versionstamp": result.versionstamp}))
    else:
        note(shown(f"Set {key}"))


@kv.command()
@selector_options(*ALL)
@dry_run_option
@yes_option
@json_option
@click.option("--prefix", metavar="KEY", help="Delete every key that starts with KEY's parts.")
@click.argument("key", required=False)
@kv_errors
def delete(key: str | None, prefix: str | None, yes: bool, as_json: bool, selectors: Selectors) -> None:
    """Delete KEY if it exists, or every key with a prefix."""
    from provisioner.kv.dump.load import write_all
    from provisioner.kv.dump.prefix_deletion import DeletionStopped, delete_under, keys_under

    if (key is None) == (prefix is None):
        raise UsageError("choose one: KEY or --prefix KEY", "See: provisioner kv delete --help")
    text = str(prefix if key is None else key)
    parsed = json_notation.key_of(text)
    with _connected(selectors) as (connection, store):
        asks = settings().dry_run or not yes
        if key is not None:
            if asks:
                _ask(connection, f"Delete {key}", yes, plan_item("delete-key", None, cause=key))
            (there,) = store.read([point(encode(parsed))])
            deleted = len(there)
            write_all(store, [Mutation(MutationKind.DELETE, encode(parsed))])
        else:
            if asks:
                many = counted(sum(1 for _ in keys_under(store, parsed)), "key")
                plan = plan_item("delete-prefix", None, cause=text)
                _ask(connection, f"Delete {many} with the prefix {text}", yes, plan)
            try:
                deleted = delete_under(store, parsed)
            except DeletionStopped as stopped:
                raise _stopped(stopped, text) from stopped
    if as_json:
        document = {"key": [json_notation.to_json(part) for part in parsed]}
        click.echo(json_notation.text_of({**document, "deleted": bool(deleted) if prefix is None else deleted}))
    elif key is not None:
        note(shown(f"Deleted {key}" if deleted else f"Nothing is stored under {key}"))
    else:
        note(shown(f"Deleted {counted(deleted, 'key')} with the prefix {text}"))


def _ask(connection: TimelineConnection, what: str, yes: bool, plan: Mapping[str, object]) -> None:
    """Ask as the owner of the keys requires, which is another timeline if they are shared."""
    from provisioner.operations.fork_reset import at_stake
    from provisioner.registry.store import Registry

    used = next(each for each in connection.databases if each.engine == KEYED)
    with Registry.open(the_home()) as registry:
        database = registry.database(used.database_id)
        if database is None:
            raise NotReady(f"database {used.database_name} has just been deleted", "See: provisioner status")
        users, typed = at_stake(registry, the_app(registry, connection.app_slug), database)
    of_which = f" from {database.name}" if users else ""
    confirm(f"{what}{of_which}?{users}", yes, [plan], typed=typed)


def _stopped(stopped: DeletionStopped, text: str) -> ProvisionerError:
    what = "stopped" if isinstance(stopped.reason, KeyboardInterrupt) else str(stopped.reason)
    many = f"at least {counted(stopped.deleted, 'key')} with the prefix {text}" if stopped.deleted else "the first keys"
    state = verb(stopped.deleted, "is", "are") if stopped.deleted else "may be"
    return ProvisionerError(f"{what}; {many} {state} deleted", "To delete the rest, run the command again")


@kv.command("list")
@selector_options(*ALL)
@json_option
@click.option("--start", metavar="KEY", help="The first key.")
@click.option("--end", metavar="KEY", help="Stop before this key.")
@click.option("--reverse", is_flag=True, help="List in reverse order.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="List at most N; stderr gets the next cursor.")
@click.option("--cursor", metavar="CURSOR", help="Continue where an earlier list ended.")
@click.argument("prefix", required=False)
@kv_errors
def list_command(
    prefix: str | None,
    start: str | None,
    end: str | None,
    limit: int | None,
    reverse: bool,
    cursor: str | None,
    as_json: bool,
    selectors: Selectors,
) -> None:
    """List entries by prefix or key range.

    Prints one line per entry, the key and the value separated by a tab, without loading the whole list into memory.
    """
    bounds = [None if each is None else json_notation.key_of(each) for each in (prefix, start, end)]
    if bounds[0] is None and (bounds[1] is None or bounds[2] is None):
        bounds[0] = ()
    with _opened(selectors) as opened:
        entries = opened.list(
            bounds[0], start=bounds[1], end=bounds[2], limit=limit, reverse=reverse, cursor=cursor, batch_size=500
        )
        unreadable = _print_all(entries, as_json)
        if limit is not None and entries.cursor:
            click.echo(f"cursor: {entries.cursor}", err=True)
    if unreadable:
        raise ProvisionerError(f"{counted(unreadable, 'entry')} cannot be read", "The lines above name them")


def _print_all(entries: Iterator[KvEntry[Any]], as_json: bool) -> int:
    """Print each entry as it is read. Returns how many cannot be read."""
    unreadable = 0
    before = "[\n" if as_json else ""
    while True:
        try:
            entry = next(entries)
        except StopIteration:
            break
        except Malformed as error:
            unreadable += 1
            click.echo(f"provisioner: {error}", err=True)
            continue
        document = json_notation.entry_to_json(entry)
        if as_json:
            click.echo(before + json_notation.text_of(document), nl=False)
            before = ",\n"
        else:
            click.echo(f"{json_notation.text_of(document['key'])}\t{json_notation.text_of(document['value'])}")
    if as_json:
        click.echo("[]" if before == "[\n" else "\n]")
    return unreadable


@kv.command()
@selector_options(*ALL)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N lines.")
@click.argument("keys", nargs=-1, required=True, metavar="KEY [KEY]...")
@json_option
@kv_errors
def watch(keys: tuple[str, ...], count: int | None, selectors: Selectors, as_json: bool) -> None:
    """Watch up to 10 keys and print their entries as JSON.

    One array a line, with and without --json.
    """
    del as_json
    with _opened(selectors) as opened, opened.watch([json_notation.key_of(key) for key in keys]) as states:
        for entries in states:
            click.echo(json_notation.text_of([json_notation.entry_to_json(entry) for entry in entries]))
            if count is not None and not (count := count - 1):
                break
