"""The tables of a Deno KV database on PostgreSQL, and the two functions by which transactions begin and end.

They are in a separate schema, so that an app's tables may be beside them. Keys are `bytea`, which PostgreSQL
orders bytewise as Deno orders keys. `plain` keeps them as they are: a key of 2,048 bytes fits an index entry, and comparing
compressed ones would cost more than it saves.
"""

from __future__ import annotations

from typing import Final

FORMAT: Final = 1  # what `state.format` says; a program that finds a higher one must not write

# Advisory locks of the database: "deno", "kv", and what for.
MAKING: Final = 0x64656E6F_6B760001
WRITING: Final = 0x64656E6F_6B760002
# A server that took over from another may lack its last commits, whose versions were seen. Fewer than that many.
AHEAD: Final = 1 << 32
CHANNEL: Final = "deno_kv"

FIND: Final = "select to_regclass('deno_kv.state')::text"
FORMAT_OF: Final = "select format from deno_kv.state"
LOCK: Final = f"select pg_advisory_xact_lock({MAKING})"

# The state of the last commit, which the next one counts from. `pg_walfile_name` starts with the server's history.
_VERSION: Final = f"""
create function deno_kv.last_version() returns bigint language sql volatile as $$
    select last_value + case when s.wal_timeline in ('', substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
        then 0 else {AHEAD} end
    from deno_kv.version, deno_kv.state s
$$"""

# Starts a transaction: no other writer writes from here to its end. Each statement of the function sees what was committed
# before it, so also what the one before in the lock has done.
_BEGIN: Final = f"""
create function deno_kv.begin_writing(writer_id text, number bigint, out version bigint, out done boolean)
language plpgsql as $$
begin
    perform pg_advisory_xact_lock({WRITING});
    version := deno_kv.last_version();
    done := exists (select from deno_kv.commits c where c.writer = writer_id and c.token = number);
end $$"""

# Puts entries and messages down, and takes note of its token; what the first try has committed it does not do again, nor
# anything that comes later than a later one. Gives the version before. `total`: how much further the version is then.
# `previous` is the token of the last transaction, whose row is deleted by its key: a search for it would pass all that were
# deleted before and have not been swept.
_END: Final = f"""
create function deno_kv.end_writing(writer_id text, number bigint, previous bigint, total bigint,
    keys bytea[], vals bytea[], encodings bigint[], offsets bigint[], expiries bigint[], gone bytea[],
    ids text[], times bigint[], payloads bytea[], schedules text[], undelivered text[], news text)
returns bigint language plpgsql as $$
declare
    base bigint;
    timeline text;
begin
    perform pg_advisory_xact_lock({WRITING});
    select c.version into base from deno_kv.commits c where c.writer = writer_id and c.token = number;
    if found then  -- on a standby, too: what waits for standbys now is behind it in the log
        update deno_kv.commits set at = clock_timestamp() where writer = writer_id and token = number;
        return base;
    end if;
    if exists (select from deno_kv.commits c where c.writer = writer_id and c.token > number) then
        raise exception 'a later transaction of this writer was committed' using errcode = '40001';
    end if;
    base := deno_kv.last_version();
    if keys is not null then
        insert into deno_kv.kv (k, v, v_encoding, version, expiration_ms)
            select k, v, e::integer, base + o, x from unnest(keys, vals, encodings, offsets, expiries) as t (k, v, e, o, x)
            on conflict (k) do update set v = excluded.v, v_encoding = excluded.v_encoding, version = excluded.version,
                expiration_ms = excluded.expiration_ms;
    end if;
    if gone is not null then
        delete from deno_kv.kv where k = any (gone);
    end if;
    if ids is not null then
        insert into deno_kv.queue (id, at_ms, data, backoff_schedule, keys_if_undelivered)
            select * from unnest(ids, times, payloads, schedules, undelivered);
    end if;
    delete from deno_kv.commits where writer = writer_id and token = previous;
    insert into deno_kv.commits (writer, token, version) values (writer_id, number, base);
    if total > 0 then
        timeline := substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);
        update deno_kv.state set wal_timeline = timeline where wal_timeline <> timeline;
        perform setval('deno_kv.version', base + total);
    end if;
    if news is not null and exists
            (select from deno_kv.listeners where id <> writer_id and until > clock_timestamp()) then
        perform pg_notify('{CHANNEL}', news);
    end if;
    return base;
end $$"""

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
    # The last transaction of each writer, and the version before it: it says whether a commit whose answer was lost has
    # happened.
    "create table deno_kv.commits (writer text not null, token bigint not null, version bigint not null,"
    " at timestamptz not null default now(), primary key (writer, token))",
    # The listeners for commits, and their last renewals. Without other listeners, no notification is sent.
    "create table deno_kv.listeners (id text primary key, until timestamptz not null)",
    _VERSION,
    _BEGIN,
    _END,
)
