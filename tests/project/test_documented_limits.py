"""The page on limits has the limits that the code sets."""

from __future__ import annotations

import re

from paths import ROOT

from provisioner.cli.options.server_options import PREVIEW_OPTIONS, SERVER_OPTIONS
from provisioner.connect.server import listener, rate_limit, request_body, runner, tokens, watch_stream
from provisioner.core import durations, host_names, hosting, naming
from provisioner.core.model import app
from provisioner.daemon import loop
from provisioner.dashboard.web import session_files
from provisioner.engines.postgres import preflight
from provisioner.engines.postgres.access import limits as postgres
from provisioner.hosting.deployments import starting
from provisioner.hosting.router import pending
from provisioner.jobs import progress, queue
from provisioner.kv import limits as kv
from provisioner.kv.stores.postgres.pool_limits import PoolLimits
from provisioner.reconcile.plan import retry_delay
from provisioner.registry import variables
from provisioner.runs import output, process

MIB, MINUTE_MS, HOUR_MS, DAY_MS = 1 << 20, 60_000, 3_600_000, 86_400_000

LIMITS = {
    "PostgreSQL": f"{preflight.OLDEST} to",
    "branches of an app with databases": f"{app.MAX_BRANCHES:,}",
    "an app's or an instance's name": f"{naming.APP_SLUG_LIMIT} lowercase",
    "a database's name": f"{naming.NAME_LIMIT} bytes",
    "a branch in a host name": f"{host_names.LABEL_LIMIT} bytes",
    "a variable's name, and its value": f"{variables.LONGEST_NAME} bytes, {variables.LONGEST_VALUE >> 10} KiB",
    "a duration": f"{durations.LONGEST_MS // DAY_MS:,} days",
    "a pre-deploy command": f"{app.PRE_DEPLOY_MS // MINUTE_MS} min",
    "that a push waits for its branches": f"{progress.PUSH_SECONDS // 60:.0f} min",
    "between retries of a failed step": f"{retry_delay.FIRST_RETRY_MS // 1000} s, doubled each time up to"
    f" {retry_delay.LONGEST_RETRY_MS // MINUTE_MS} min",
    "from SIGTERM to the end of the daemon, of the server": f"{loop.STOP_SECONDS:.0f} s, {runner.DRAIN_SECONDS:.0f} s",
    "a key": f"({kv.KEY_WRITTEN:,} bytes)",
    "a value": f"({kv.VALUE:,} bytes)",
    "keys in one `get_many`": f"{kv.READ_RANGES}",
    "entries in one batch of a list": f"{kv.READ_ENTRIES:,}",
    "an atomic operation": f"{kv.CHECKS} checks, {kv.MUTATIONS:,} mutations and messages, {kv.MUTATION_BYTES:,} bytes in"
    f" total, of which keys {kv.KEY_BYTES:,}",
    "watched keys": f"{kv.WATCHED_KEYS}",
    "the delay of a message": f"{kv.DELAY // DAY_MS} days",
    "retries of a message": f"{kv.BACKOFF_INTERVALS} intervals",
    "connections to a database": f"at least {postgres.FEWEST_CONNECTIONS}",
    "temporary files of a connection": f"{postgres.USUAL_TEMP_BYTES // 10**9} GB",
    "a statement, and an idle transaction": f"{postgres.USUAL_STATEMENT_MS // HOUR_MS} h",
    "connections of a provisioner server to each PostgreSQL server with Deno KV databases": f"{PoolLimits().most}, of which"
    f" {PoolLimits().each} to",
    "open connections": f"{SERVER_OPTIONS['--max-connections']['default']:,}",
    "headers of a request": f"{listener.HEADERS >> 10} KiB",
    "bodies in transit": f"{request_body.HELD_EACH // MIB} MiB for each database, {request_body.HELD // MIB} MiB in total",
    "a watch": f"after {watch_stream.MOST_BYTES // MIB} MiB",
    "failed attempts with a token": f"{rate_limit.AT_ONCE} in a row",
    "a token of the data path": f"{tokens.LIFETIME_MS // HOUR_MS} h",
    "a session of the dashboard": f"{session_files.IDLE_MS // HOUR_MS} h without use,"
    f" {session_files.LONGEST_MS // DAY_MS} d in total",
    "a checkout": f"{app.CHECKOUT_FILES:,} files, {app.CHECKOUT_BYTES // 10**9} GB",
    "a command's log": f"{output.MOST_LOG_BYTES // 10**6} MB",
    "free disk space that a command leaves": f"{process.KEEP_FREE // MIB} MiB",
    "commands at the same time": f"{queue.EACH} of an app, {queue.HANDS} in total",
    "apps that run at the same time": f"{PREVIEW_OPTIONS['--max-apps']['default']}",
    "an app's memory": f"{hosting.MEMORY_BYTES >> 30} GiB",
    "an app's processes": f"{hosting.MOST_PROCESSES:,}",
    "a build command": f"{hosting.BUILD_MS // MINUTE_MS} min",
    "until an app is healthy": f"{starting.START_SECONDS:.0f} s",
    "until a branch's app sleeps": f"{hosting.IDLE_MS // MINUTE_MS} min",
    "an app's log": f"two files of {output.MOST_ROTATED_BYTES // 10**6} MB",
    "requests that wait for one app, and in total": f"{pending.MOST_EACH}, {pending.MOST:,}",
}


def test_the_page_on_limits_has_those_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "limits.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE))
    wrong = {what: (said, rows.get(what)) for what, said in LIMITS.items() if said not in rows.get(what, "")}
    assert wrong == {}
