"""The tables of a Deno KV database on PostgreSQL: in a schema of their own, so that an app's tables may stand beside them.

Keys are `bytea`, which PostgreSQL orders bytewise as Deno orders keys. `plain` keeps them as they are: a key of 2,048
bytes fits an index entry, and comparing compressed ones would cost more than it saves.
"""

from __future__ import annotations

from typing import Final

FORMAT: Final = 1  # what `state.format` says; a server that finds a higher one must not write

# Advisory locks of the database: "deno", "kv", and what for.
MAKING: Final = 0x64656E6F_6B760001
WRITING: Final = 0x64656E6F_6B760002

FIND: Final = "select to_regclass('deno_kv.state')::text"
FORMAT_OF: Final = "select format from deno_kv.state"
LOCK: Final = f"select pg_advisory_xact_lock({MAKING})"

STATEMENTS: Final = (
    "create schema if not exists deno_kv",
    # `wal_timeline` is the server's history in which the last version was given: another one after each failover.
    "create table deno_kv.state (format integer not null, wal_timeline text not null)",
    f"insert into deno_kv.state values ({FORMAT}, '')",
    # The version of the last commit. A row would leave a dead one behind at every commit.
    "create sequence deno_kv.version minvalue 0 start 0",
    "create table deno_kv.kv (k bytea not null, v bytea not null, v_encoding integer not null, version bigint not null,"
    " expiration_ms bigint not null)",
    "alter table deno_kv.kv alter column k set storage plain, add primary key (k)",
    "create index kv_expiration on deno_kv.kv (expiration_ms) where expiration_ms >= 0",
    # `at_ms`: when it is due or, while its handler runs, when that counts as dead. `number` keeps the order of arrival.
    "create table deno_kv.queue (id text primary key, number bigint generated always as identity, at_ms bigint not null,"
    " running boolean not null default false, data bytea not null, backoff_schedule text not null,"
    " keys_if_undelivered text not null)",
    "create index queue_due on deno_kv.queue (at_ms, number) where not running",
    "create index queue_held on deno_kv.queue (at_ms) where running",
    # The last transaction of each writer: it says whether a commit whose answer was lost has happened.
    "create table deno_kv.commits (writer text not null, token bigint not null, at timestamptz not null default now(),"
    " primary key (writer, token))",
    # Who wants to hear of commits, and until when it said so. Nobody is told anything while nobody else listens.
    "create table deno_kv.listeners (id text primary key, until timestamptz not null)",
)
