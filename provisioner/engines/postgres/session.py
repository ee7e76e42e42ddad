"""Connections of the administrator to a server, and what its refusals mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from provisioner.core.connection import AUTHENTICATION, SERVER_OPTIONS, Location, quoted
from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres.access import authentication
from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.postgres.session_pool import SessionPool
from provisioner.engines.protocol import location as place
from provisioner.engines.protocol.stopped import ServerStopped
from provisioner.kv.stores.postgres.connection import FOR_EVER, NOTICING, Bounded
from provisioner.system.looking import may_start

Session = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60  # of one that does not take the longer the more data there is
LOCK_SECONDS = 5  # that a statement waits for a lock of another session
_SLACK_SECONDS = 10  # after which a server that ought to have ended a statement itself is taken for gone
# How long a refusal holds for all who come: as many times as long as it took, so that a server that swallows what it is
# sent costs its callers a tenth of their time at most.
_REFUSED_SECONDS = 2.0
_REFUSED_TIMES = 10
_LONGEST_REFUSAL = 60.0

# A timeline's role may have put functions of any name into its database: the administrator must not call them.
_SETTINGS = sql.SQL(
    "set search_path to pg_catalog, pg_temp; set synchronous_commit to on; set statement_timeout to {};"
    " set lock_timeout to {}; set idle_in_transaction_session_timeout to 0; set client_min_messages to error"
).format(f"{STATEMENT_SECONDS}s", f"{LOCK_SECONDS}s")

POOL = SessionPool()
"""That of this process. `provisioner.engines.catalog.close` closes it."""


def admin_url(instance: Instance) -> str:
    """What the administrator connects with. An embedded server that does not run is started, unless nothing is to be
    started: then it is Stopped. Raises StorageFailed."""
    if instance.url:
        return instance.url
    if may_start():
        embedded.start(instance.location)
    elif not embedded.runs(instance.location):
        embedded.must_be_there(instance.location)
        raise ServerStopped(
            f"the server in {instance.location} is stopped", f"To start it: provisioner instance start {instance.slug}"
        )
    return embedded.admin_url(instance.location)


@contextmanager
def looking(instance: Instance) -> Iterator[Session]:
    """A session whatever the server keeps, for looking. Raises StorageFailed.

    Sessions are kept for the next: connecting takes longer than most of what is done.
    """
    url = admin_url(instance)
    session = POOL.take(url)
    if session is not None and not _alive(session):
        POOL.drop(url)
        session = None
    if session is None:
        session = connect(instance, url)
    with refusals(instance):
        try:
            yield session
        except BaseException:
            with suppress(psycopg.Error):
                session.close()
            raise
    POOL.give(url, session)


@contextmanager
def patiently(session: Session, seconds: int = 0) -> Iterator[None]:
    """Lets work that grows with the data take its time: it ends only with its host, or after `seconds`."""
    session.execute(sql.SQL("set statement_timeout to {}").format(f"{seconds}s"))
    _set_longest(session, FOR_EVER)
    try:
        yield
    finally:
        _set_longest(session, STATEMENT_SECONDS + _SLACK_SECONDS)
        with suppress(psycopg.Error):
            session.execute(sql.SQL("set statement_timeout to {}").format(f"{STATEMENT_SECONDS}s"))


@contextmanager
def refusals(instance: Instance) -> Iterator[None]:
    """What the server refuses is raised as StorageFailed."""
    try:
        yield
    except psycopg.Error as error:
        raise StorageFailed(*why(error, instance)) from error


def forget_refusals() -> None:
    """Ask again at once whether servers answer."""
    POOL.forget_refusals()


def variables_for_tools(instance: Instance, database: str) -> dict[str, str]:
    """What tells PostgreSQL's own programs to connect as the administrator, with no secret in their arguments."""
    given = conninfo_to_dict(admin_url(instance), dbname=database)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    names |= dict(SERVER_OPTIONS)
    found = {names[word]: str(value) for word, value in given.items() if word in names and value is not None}
    found[AUTHENTICATION[1]] = place.variables(instance.location)[AUTHENTICATION[1]]
    return {**found, "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS), "PGAPPNAME": "provisioner"}


def connected(url: str, location: Location, **options: str) -> Bounded:
    """A new connection to an instance's server that never waits indefinitely. Raises psycopg.Error and StorageFailed."""
    options |= authentication.required(location)
    own = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "provisioner"}
    session = Bounded.connect(make_conninfo(url, **own, **_unsaid(url), **options), autocommit=True)
    session.longest = STATEMENT_SECONDS + _SLACK_SECONDS
    return session


def connect(instance: Instance, url: str, **options: str) -> Bounded:
    """A session of the administrator's. Who was refused a moment ago is refused at once: of a thousand databases each asks.

    Once that time is over one asks again, and the others are refused until it knows.
    """
    began = time.monotonic()
    known = POOL.refusal(url, began, CONNECT_SECONDS)
    if known is not None:
        raise known
    try:
        session = connected(url, instance.location, **options)
        session.execute(_SETTINGS)
    except psycopg.Error as error:
        refusal = StorageFailed(*why(error, instance, url))
        now = time.monotonic()
        if "dbname" not in options or isinstance(error, psycopg.errors.ConnectionTimeout):
            seconds = min(max(_REFUSED_SECONDS, _REFUSED_TIMES * (now - began)), _LONGEST_REFUSAL)
            POOL.refused(url, now + seconds, refusal)
        else:  # the server answers, but has not that database
            POOL.answered(url)
        raise refusal from error
    POOL.answered(url)
    return session


def _unsaid(url: str) -> dict[str, str]:
    """How a host that is gone is noticed, as far as the URL does not say that."""
    said = conninfo_to_dict(url)
    return {name: value for name, value in NOTICING.items() if name not in said}


def _set_longest(session: Session, seconds: float) -> None:
    if isinstance(session, Bounded):
        session.longest = seconds


def _alive(session: Bounded) -> bool:
    """Whether it is still open. A restarted server has closed it."""
    if session.closed:
        return False
    longest, session.longest = session.longest, CONNECT_SECONDS
    try:
        session.execute("select 1")
    except psycopg.Error:
        with suppress(psycopg.Error):
            session.close()
        return False
    session.longest = longest
    return True


def masked(text: str, secret: str | None) -> str:
    """`text` without a password in it, however that is written."""
    for form in filter(None, (secret, quoted(secret or ""))):
        text = text.replace(form, "…")
    return text


def why(error: psycopg.Error, instance: Instance, url: str = "") -> tuple[str, str]:
    """What went wrong, and what to do; never with the password in it. `url`, if not the instance's own, was connected to."""
    location, url = instance.location, url or instance.url
    secret = conninfo_to_dict(url).get("password") if url else None
    said = masked(" ".join(str(error).split()), str(secret) if secret else None)
    for words, meaning, hint in _MEANINGS:
        if any(word in said for word in words):
            return f"the server {location} {meaning}: {said}", hint.replace(_NAME, instance.slug)
    return f"the server {location} refused: {said}", ""


_NAME = "NAME"
_TEST = f"Then run: provisioner instance test {_NAME}"
_MEANINGS = (
    (
        ("translate host name", "resolve host", "Name or service not known", "nodename nor servname"),
        "cannot be found, because no DNS server knows that host",
        f"Check its name. {_TEST}",
    ),
    (
        ("Connection refused",),
        "refuses connections, because nothing listens there",
        f"Start PostgreSQL; check the port, and listen_addresses in postgresql.conf. {_TEST}",
    ),
    (
        ("timeout expired", "timed out", "No route to host", "Network is unreachable", "did not answer in time"),
        "does not answer",
        f"Check the address, and the firewalls on the way. {_TEST}",
    ),
    (
        ("password authentication failed", "no password supplied", "no PostgreSQL user name"),
        "does not accept this user and password",
        f"Give the right ones: provisioner instance edit {_NAME} --url URL",
    ),
    (
        ("authentication method requirement",),
        "asks for the password in another way than SCRAM, so nothing was sent",
        "Check that it is your server; have its pg_hba.conf say scram-sha-256, and set the password again. Only if TLS verifies"
        f" it: provisioner instance edit {_NAME} --url 'postgresql://…?require_auth=password'",
    ),
    (
        ("no encryption",),
        "accepts only TLS",
        f"Run: provisioner instance edit {_NAME} --sslmode require",
    ),
    (
        ("no pg_hba.conf entry",),
        "does not let this user in from here",
        f"Add a line to its pg_hba.conf, and reload it. {_TEST}",
    ),
    (
        ("server does not support SSL",),
        "offers no TLS",
        f"Switch ssl on in its postgresql.conf, or say: provisioner instance edit {_NAME} --sslmode disable",
    ),
    (
        ("certificate", "SSL error", "sslmode", "SSL connection"),
        "cannot be trusted by TLS",
        f"Give the certificate of its authority: provisioner instance edit {_NAME} --ca-cert FILE",
    ),
    (
        ("permission denied for database",),
        "does not let this user connect to its database",
        "As its superuser run: GRANT CONNECT ON DATABASE <database> TO <user>",
    ),
    (
        ("permission denied to create database", "permission denied to rename database"),
        "lets this user make and rename no databases",
        "As its superuser run: ALTER ROLE <user> CREATEDB CREATEROLE",
    ),
    (
        ("permission denied to create role",),
        "lets this user create no roles",
        "As its superuser run: ALTER ROLE <user> CREATEDB CREATEROLE",
    ),
    (
        ("too many clients", "remaining connection slots", "too many connections"),
        "has no connection left for us",
        "Raise max_connections, or have programs keep fewer open",
    ),
    (
        ("starting up", "shutting down", "in recovery mode"),
        "is starting or stopping",
        "Wait a moment",
    ),
    (
        ("due to statement timeout", "due to lock timeout"),
        "took too long",
        "Look at what it is busy with (pg_stat_activity), then try again",
    ),
    (
        ("No space left on device",),
        "has no disk space left",
        "Free some there",
    ),
)
