"""`provisioner token`: credentials that open databases at the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from provisioner.cli.change import change
from provisioner.cli.commands.home import home_document
from provisioner.cli.commands.previews import access
from provisioner.cli.common_options import note
from provisioner.cli.context import (
    confirm,
    dry_run_option,
    json_option,
    looks,
    plan_item,
    print_json,
    renamed,
    say,
    the_app,
    the_home,
    yes_option,
)
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list
from provisioner.cli.options.duration import DURATION
from provisioner.cli.selectors import ALL, NamedTarget, parse, selector_options
from provisioner.cli.table import Column
from provisioner.cli.targets import load
from provisioner.cli.terminal import carry_out
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.durations import milliseconds
from provisioner.core.errors import NotResolved
from provisioner.core.ids import TokenId
from provisioner.core.model import App, Scope, Status, Token
from provisioner.dashboard.web import session_files
from provisioner.environment.resolve import Selectors
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.names import BYPASS
from provisioner.operations import documents, lookup
from provisioner.operations.home import credentials
from provisioner.operations.target import all_used, only_one
from provisioner.registry import tokens
from provisioner.registry.queries import app_of
from provisioner.registry.store import Registry
from provisioner.system import failpoints, secret_key


@click.group()
def token() -> None:
    """Manage access tokens for the server.

    'exec' and 'env' need no token from here: they inject one for the database that they connect to.
    """


@token.command()
@selector_options(*ALL)
@click.option("--database", metavar="TARGET", hidden=True)
@click.option("--admin", is_flag=True, help="Opens every database, including production.")
@click.option(
    "--previews", is_flag=True, help="With --app: a secret for CI, which opens the app's previews by a header."
)
@click.option("--read-only", is_flag=True, help="Refuse writes.")
@click.option("--expires-in", type=DURATION, help="For example 12h or 90d. Default: never.")
@click.option("--label", default="", metavar="LABEL", help="Its purpose, which 'token list' shows.")
@json_option
def create(
    selectors: Selectors,
    database: str | None,
    admin: bool,
    previews: bool,
    read_only: bool,
    expires_in: str | None,
    label: str,
    as_json: bool,
) -> None:
    """Create an access token and print it, once.

    With --branch, --timeline, --revision, or --instance it opens one database. With --app alone it opens the
    app's development timelines, never production. With --admin it opens everything. Only a hash is stored.
    """
    if database is not None:
        renamed("--database", "--branch, --timeline, or --instance")
    wanted = NamedTarget(selectors) if database is None else parse(database, selectors)
    if admin == (wanted.narrowed or selectors.app is not None):
        raise click.UsageError("choose what it opens: a database (--branch BRANCH), --app APP, or --admin")
    if previews and (admin or read_only or wanted.narrowed):
        raise click.UsageError("--previews requires --app APP alone")
    with Registry.open(the_home()) as registry:
        ends_at = now_ms() + milliseconds(expires_in) if expires_in else None
        if previews:
            _create_secret(registry, the_app(registry, selectors.app), ends_at, label, as_json)
            return
        scope, app_id, database_id = Scope.ADMIN, None, None
        if wanted.narrowed:
            scope, database_id = Scope.DATABASE, only_one(load(registry, wanted)).id
        elif not admin:
            scope, app_id = Scope.APP, the_app(registry, selectors.app).id
        now = now_ms()
        made, text = tokens.create(
            registry,
            scope,
            now,
            app_id=app_id,
            database_id=database_id,
            read_only=read_only,
            expires_at=ends_at,
            label=label,
        )
        if as_json:
            print_json({"token": text, **_document(registry, made)})
            return
    click.echo(text)
    note(f"Copy it now; it won't be shown again. To revoke: provisioner token revoke {made.id}")


def _create_secret(registry: Registry, app: App, ends_at: int | None, label: str, as_json: bool) -> None:
    document, text = access.create_secret(registry, app, ends_at, label)
    if as_json:
        print_json({"token": text, **document})
        return
    click.echo(text)
    note(f"Send it in the header {BYPASS}. To revoke: provisioner token revoke {document['id']}")


def _document(registry: Registry, token: Token) -> documents.Document:
    """`app` and `database` are ids if what they name is gone."""
    app = registry.app(token.app_id) if token.app_id else None
    database = registry.database(token.database_id) if token.database_id else None
    there = database is not None and database.status is not Status.PURGED and app_of(registry, database) is not None
    return {
        "id": token.id,
        "scope": str(token.scope),
        "app": app.slug if app is not None else token.app_id,
        "database": database.name if database is not None and there else token.database_id,
        "read_only": token.read_only,
        "label": token.label,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "revoked_at": rfc3339(token.revoked_at),
    }


_LAYOUT = ListLayout(
    (Column("TOKEN"), Column("OPENS"), Column("ACCESS", dropped=1), Column("STATE"), Column("LABEL", dropped=2)),
    ("id",),
    lambda item: {
        "TOKEN": item["id"],
        "OPENS": _opens(item),
        "ACCESS": "read-only" if item["read_only"] else "read-write",
        "STATE": _state(item),
        "LABEL": f"session by {item['label']}" if item["scope"] == "session" else item["label"],
    },
    "No tokens yet. A token opens databases at the server. To create one: provisioner token create --branch BRANCH",
)


@token.command(name="list")
@click.option("--app", "slug", metavar="APP", help="List the tokens of this app and of its databases. Default: all.")
@list_options
@looks
def list_tokens(slug: str | None, listing: ListOptions) -> None:
    """List tokens, including revoked and expired ones.

    The secret tokens are never shown.
    """
    home = the_home()
    with Registry.open(home) as registry:
        app = the_app(registry, slug) if slug is not None else None
        found = [item for item in tokens.listing(registry) if app is None or _is_of(registry, item, app)]
        documents = [_document(registry, item) for item in found] + access.listing(registry, app)
    sessions = [] if app is not None else session_files.listing(home, now_ms())
    print_list([*documents, *(_session(each) for each in sessions)], _LAYOUT, listing)


def _is_of(registry: Registry, token: Token, app: App) -> bool:
    database = registry.database(token.database_id) if token.database_id else None
    owner = app_of(registry, database) if database is not None else None
    return token.app_id == app.id or (owner is not None and owner.id == app.id)


def _session(session: session_files.StoredSession) -> documents.Document:
    """A session of the dashboard as a token's document: it opens everything, and expires."""
    return {
        "id": session.id,
        "scope": "session",
        "app": None,
        "database": None,
        "read_only": session.read_only,
        "label": session.principal,
        "created_at": rfc3339(session.began_at),
        "expires_at": rfc3339(session.ends_at),
        "revoked_at": None,
    }


def _opens(item: Mapping[str, Any]) -> str:
    if item["scope"] in access.SCOPES:
        return f"{item['app']} ({access.SCOPES[item['scope']]})"
    return "dashboard" if item["scope"] == "session" else item["database"] or item["app"] or "everything"


def _state(item: Mapping[str, Any]) -> str:
    if item["revoked_at"]:
        return f"revoked {item['revoked_at']}"
    if item["expires_at"] is None:
        return "valid"
    return f"{'valid until' if item['expires_at'] > (rfc3339(now_ms()) or '') else 'expired'} {item['expires_at']}"


@token.command()
@click.argument("token_id", metavar="ID", required=False)
@selector_options(*ALL)
@click.option("--database", metavar="TARGET", hidden=True)
@json_option
def revoke(token_id: TokenId | None, selectors: Selectors, database: str | None, as_json: bool) -> None:
    """Revoke a token.

    ID is an id from 'provisioner token list', or the token itself. With selectors, or a database's id, the credentials that
    'exec' and 'env' have injected for these databases are revoked. Open connections lose access within a minute.
    """
    if database is not None:
        renamed("--database", "--branch, --timeline, or --instance")
    wanted = NamedTarget(selectors) if database is None else parse(database, selectors)
    if (token_id is None) != wanted.narrowed:
        raise click.UsageError("choose one: the token's ID, or databases (--branch BRANCH)")
    if token_id is not None and token_id.startswith(secret_key.INJECTED_PREFIX):
        wanted, token_id = parse(token_id.removeprefix(secret_key.INJECTED_PREFIX).partition("_")[0], selectors), None
    home = the_home()
    with Registry.open(home) as registry:
        if token_id is not None and lookup.called(registry, token_id):
            wanted, token_id = parse(token_id, selectors), None
        if token_id is None:
            target = load(registry, wanted)
            carry_out(
                credentials.revoke(registry, all_used(target)),
                document=change(registry, "revoke", target.app, target.timeline) if as_json else None,
            )
            return
        known = tokens.find(registry, tokens.split(str(token_id))[0])
        if known is None and (ended := session_files.revoke(home, lambda session: session.id == token_id)):
            now = now_ms()
            registry.record(now, "dashboard.revoke", registry.who, detail=f"session {ended[0].id}")
            document = {**_session(ended[0]), "revoked_at": rfc3339(now)}
            say(f"Ended session {ended[0].id} of {ended[0].principal}", document if as_json else None)
            return
        if known is None and (opener := access.revoke(registry, str(token_id))) is not None:
            say(f"Revoked {access.SCOPES[str(opener['scope'])]} {opener['id']}", opener if as_json else None)
            return
        if known is None:
            raise NotResolved(f"no token {tokens.split(str(token_id))[0]!r}", "List tokens: provisioner token list")
        tokens.revoke(registry, known[0], now_ms())
        failpoints.point("revoke.recorded")
        session_files.revoke(home, lambda session: session.token_id == known[0].id)
        PreviewAccess(home).revoke_token(known[0].id)
        now_known = tokens.find(registry, known[0].id) or known
        say(f"Revoked token {known[0].id}", _document(registry, now_known[0]) if as_json else None)


@token.command(name="rotate-key")
@dry_run_option
@yes_option
@json_option
def rotate_key(yes: bool, as_json: bool) -> None:
    """Replace the home's key and revoke injected credentials.

    Revokes everything that 'exec' and 'env' have injected, and ends every session of the dashboard and of previews.
    Listed tokens stay valid.
    """
    home = the_home()
    with Registry.open(home) as registry:
        confirm(
            "Replace the key? Every app that connects by URL must be restarted.", yes, [plan_item("rotate-key", None)]
        )
        credentials.rotate_key(registry)
    say(
        "Replaced the key. Restart the apps that connect by URL, and write env files again: provisioner env --write FILE",
        home_document(home) if as_json else None,
    )
