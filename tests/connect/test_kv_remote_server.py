"""The client against `provisioner serve` that is restarted and killed, and processes that share a queue over it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from connect_world import Access, Server, access, serving
from kv_files import rows
from kv_processes import Process, deno, python, running, total, transferred
from kv_server import Made, Served, served
from kv_worker import ACCOUNTS, SUM
from support import files, ok, run, shop, status, until

from provisioner.kv import AccessDenied, Kv, KvError, ReadOnly, StoreFailed, Uncertain, open_kv
from provisioner.kv.client import async_client, sync_client
from provisioner.kv.codec.value import to_v8
from provisioner.kv.model import AtomicWrite, Committed, Enqueue
from provisioner.kv.store import Store
from provisioner.kv.stores.sqlite.store import SqliteStore

TIMES = 20 if "KV_NIGHTLY" in os.environ else 3
THREADS = 8
MESSAGES = 200


@pytest.fixture
def shop_path(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def process(home: Path, shop_path: Path) -> Iterator[Server]:
    """The server in a process of its own."""
    with serving(home) as server:
        yield server


@pytest.fixture
def login(process: Server, shop_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    """The database of a branch, whose token is in the environment."""
    found = access(shop_path, "login")
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", found.token)
    return found


@pytest.fixture
def made(server: Served, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A database of the server in this process; its token is in the environment, also of processes that a test starts."""
    found = server.database()
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", found.token)
    return found


def restart(server: Server) -> None:
    server.stop(signal.SIGKILL)
    server.start()


def heard(process: Process) -> object:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_the_environment_names_database_and_token(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_KV_URL", made.url)
    with open_kv() as kv:
        assert kv.set(("a",), 1)
        assert kv.get(("a",)).value == 1


def test_a_client_outlives_its_server(login: Access, process: Server) -> None:
    heard_messages: list[object] = []
    with open_kv(login.url) as kv, kv.watch([("a",)]) as states:
        listener = threading.Thread(target=kv.listen_queue, args=(heard_messages.append,))
        listener.start()
        next(states)
        for number in range(TIMES):
            restart(process)
            kv.get(("a",))  # a connection that broke is no reason to send a write again
            kv.set(("a",), number)
            assert next(states)[0].value == number
            kv.enqueue(number)
            until(lambda number=number: len(heard_messages) == number + 1)  # type: ignore[misc]
        assert process.stop() == 0, "streams end when the server stops"
        process.start()
        assert kv.get(("a",)).value == TIMES - 1
    listener.join(60)
    assert not listener.is_alive()
    assert heard_messages == list(range(TIMES))


def count(kv: Kv, thread: int, over: threading.Event, uncertain: list[int]) -> int:
    """Commit until it is over, each once: how many commits this thread knows of."""
    known = 0
    while not over.is_set():
        last = kv.get(("last", thread))
        done = last.value or 0
        assert done in (known, known + 1), "a commit was lost, or happened twice"
        known = done
        operation = kv.atomic().check(last).sum(("count",), 1).set(("last", thread), done + 1)
        try:
            result = operation.commit()
        except Uncertain:
            uncertain.append(thread)
            continue
        assert result, "nobody else writes this"
        known += 1
    return int(kv.get(("last", thread)).value or 0)


def test_a_write_never_happens_twice_when_the_server_is_killed(login: Access, process: Server, shop_path: Path) -> None:
    over = threading.Event()
    uncertain: list[int] = []
    counts: list[int] = []
    with open_kv(login.url) as kv:
        threads = [
            threading.Thread(target=lambda at=at: counts.append(count(kv, at, over, uncertain)))
            for at in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for _ in range(TIMES):
            before = kv.get(("count",)).value or 0
            wanted = before + random.randrange(1, 500)
            until(lambda wanted=wanted: (kv.get(("count",)).value or 0) > wanted)  # type: ignore[misc]
            restart(process)
        over.set()
        for thread in threads:
            thread.join()
    with open_kv(files(shop_path)["login"]) as kv:
        total = kv.get(("count",)).value
    print(f"{TIMES} kills, {total} commits, of which {len(uncertain)} were not known of at first")
    assert len(counts) == THREADS, "a thread failed"
    assert sum(counts) == total


def test_two_processes_share_a_queue_and_handle_each_message_once(made: Made) -> None:
    path = Path(made.path)
    handled: list[int] = []
    with (
        open_kv(made.url) as kv,
        running(*python("listen", made.url, "take")) as one,
        running(*python("listen", made.url, "take")) as other,
    ):
        for at in range(0, MESSAGES, 100):
            operation = kv.atomic()
            for number in range(at, at + 100):
                operation.enqueue(number)
            assert operation.commit()
        until(lambda: not rows(path, "queue") and not rows(path, "queue_running"))
        for process in (one, other):
            lines, errors = process.communicate()
            assert process.returncode == 0, errors
            handled += [json.loads(line) for line in lines.splitlines()]
    assert Counter(handled) == Counter(range(MESSAGES))


def test_a_message_comes_again_when_its_listener_is_killed(made: Made) -> None:
    with open_kv(made.url) as kv:
        kv.enqueue({"number": 1})
        with running(*python("listen", made.url, "hold")) as holding:
            assert heard(holding) == {"number": 1}
            holding.kill()
        with running(*python("listen", made.url, "take")) as taking:
            assert heard(taking) == {"number": 1}


def test_one_listens_at_the_server_and_one_on_the_file(made: Made) -> None:
    with (
        open_kv(made.url) as kv,
        running(*python("listen", made.url, "fail")) as far,
        running(*python("listen", Path(made.path), "fail")) as near,
    ):
        kv.enqueue("hopeless", backoff_schedule=[10] * 5, keys_if_undelivered=[("dead",)])
        until(lambda: kv.get(("dead",)).value == "hopeless")
        tries = []
        for process in (far, near):
            lines, errors = process.communicate()
            assert process.returncode == 0, errors
            tries += lines.splitlines()
    assert len(tries) == 6


def test_the_servers_clock_counts(made: Made) -> None:
    store: Store = sync_client.open_store(made.url)
    now = sync_client.now()
    with Kv(store) as kv:
        kv.set(("a",), 1, expire_in=50_000)
        assert store.collect(now + 10**9) == (0, None)
        assert kv.get(("a",)).value == 1
        kv.atomic().enqueue("late", delay=50_000, backoff_schedule=[]).commit()
        messages, due = store.claim(10**9, 1)
        assert messages == []
        assert due is not None
        assert 10**9 + 40_000 < due <= 10**9 + 50_000
        kv.enqueue("now", backoff_schedule=[])
        ((message,), _) = store.claim(0, 1)
        assert store.revive(10**15)[0] == 0
        store.finish(message.id, False, 0)
        assert Enqueue(to_v8("now"), 0).payload == message.payload


def test_what_expires_is_seen_by_who_watches(made: Made) -> None:
    with open_kv(made.url) as kv, kv.watch([("a",)]) as states:
        next(states)
        kv.set(("a",), 1, expire_in=300)
        assert next(states)[0].value == 1
        assert next(states)[0].value is None


def test_a_token_that_may_only_read_does_only_that(made: Made, server: Served) -> None:
    reading = server.reading(made)
    with open_kv(made.url) as kv, open_kv(made.url, access_token=reading) as reader, reader.watch([("a",)]) as states:
        next(states)
        kv.set(("a",), 1)
        assert next(states)[0].value == 1
        assert reader.get(("a",)).value == 1
        writes: list[Callable[[], object]] = [
            lambda: reader.set(("a",), 2),
            lambda: reader.enqueue(1),
            lambda: reader.listen_queue(print),
        ]
        for write in writes:
            with pytest.raises(ReadOnly, match="read"):
                write()


def refused(kv: Kv, error: type[KvError], text: str) -> bool:
    try:
        kv.get(("a",))
    except error as raised:
        return text in str(raised)
    return False


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [("token revoke --database", AccessDenied, "token"), ("database archive --yes", StoreFailed, "is archived")],
)
def test_what_is_taken_away_is_gone_within_seconds(
    login: Access, shop_path: Path, command: str, error: type[KvError], text: str
) -> None:
    (name,) = [each["name"] for row in status(shop_path) for each in row["databases"] if row["branch"] == "login"]
    with open_kv(login.url) as kv:
        kv.set(("a",), 1)
        ok(shop_path, *command.split(), name)
        until(lambda: refused(kv, error, text))
    with pytest.raises(error, match=text):
        open_kv(login.url)


async def _many(url: str) -> None:
    async with await async_client.open_kv(url) as kv:
        await asyncio.gather(*(kv.set((number,), number) for number in range(300)))
        assert [entry.value async for entry in kv.list(())] == list(range(300))


def test_many_writes_of_an_event_loop_are_on_their_way_at_once(made: Made) -> None:
    asyncio.run(_many(made.url))


NODE = """
import { openKv } from "@deno/kv";
import { deserialize as decodeV8, serialize as encodeV8 } from "node:v8";
const kv = await openKv(process.argv[1], { encodeV8, decodeV8 });
await kv.enqueue({ from: "node", parts: [1, 2n] });
await kv.enqueue("fails", { keysIfUndelivered: [["dead"]] }); // after 100, 200, 400, 800 ms, whatever else is said
kv.close();
"""


def test_what_node_enqueues_at_the_server_is_heard(made: Made, node_modules: Path) -> None:
    run(node_modules.parent, "node", "--input-type=module", "-e", NODE, made.url, check=True)
    heard: list[object] = []

    def handler(message: object) -> None:
        heard.append(message)
        assert message != "fails"

    with open_kv(made.url) as kv, kv.watch([("dead",)]) as states:
        listener = threading.Thread(target=kv.listen_queue, args=(handler,))
        listener.start()
        until(lambda: next(states)[0].value == "fails")
    listener.join(60)
    assert heard == [{"from": "node", "parts": [1, 2]}, *["fails"] * 5]


@pytest.mark.parametrize(("backoff", "tries"), [((), 1), (tuple(range(10)), 11), (None, 6), ((0,) * 101, 0)])
def test_the_server_keeps_any_schedule_that_a_client_may_send(
    made: Made, backoff: tuple[int, ...] | None, tries: int
) -> None:
    """As denokv for Python, which sends ten intervals; and an empty one means that nothing is tried again."""
    with closing(sync_client.open_store(made.url)) as store, closing(SqliteStore(made.path)) as near:
        (outcome,) = store.write([AtomicWrite(enqueues=(Enqueue(to_v8("x"), 0, (), backoff),))])
        assert isinstance(outcome, Committed) is bool(tries)
        for _ in range(tries):
            ((message,), _) = near.claim(10**15, 1)
            near.finish(message.id, False, 10**14)
        assert near.claim(10**15, 1) == ([], None)


@pytest.mark.timeout(300)
def test_clients_of_the_server_and_of_the_file_transfer_at_once_and_the_sum_stays(made: Made) -> None:
    commands = {
        "deno-near": deno("kv_transfer.ts", made.path, "deno-near"),
        "deno-far": deno("kv_transfer.ts", made.url, "deno-far"),
        "python-near": python("transfer", made.path, "python-near"),
        "python-far": python("transfer", made.url, "python-far"),
    }
    with open_kv(made.url) as kv:
        for account in range(ACCOUNTS):
            kv.set(("account", account), {"balance": SUM // ACCOUNTS, "by": "nobody"})
        reports = transferred(kv, commands)
        assert total(kv) == SUM
    for name, report in reports.items():
        print(f"{name}: {report}")
    seen = {writer.split("-")[-1] for name, report in reports.items() for writer in report["seen"] if writer != name}
    assert {"near", "far"} <= seen


def test_a_certificate_has_to_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate, *named)
    run(tmp_path, "openssl", *new, check=True)
    with served(tmp_path / "served", (certificate, key)) as server:
        made = server.database()
        assert made.url.startswith("https://")
        with pytest.raises(StoreFailed, match="cannot be trusted"):
            open_kv(made.url, access_token=made.token)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        with open_kv(made.url, access_token=made.token) as kv, kv.watch([("a",)]) as states:
            assert next(states)[0].value is None
            kv.set(("a",), "x" * 50_000)
            assert next(states)[0].value == "x" * 50_000
