"""The asynchronous client: the same names, and many operations in flight."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kv_server import Served

from provisioner.kv import BigInt, Closed, CommitFailed, KvU64, LimitExceeded, TypeMismatch
from provisioner.kv.client import async_client, sync_client
from provisioner.kv.client.async_bridge import ELSEWHERE

Program = Callable[[async_client.Kv], Awaitable[None]]


@pytest.fixture(params=["file", "memory", "remote"])
def run(request: pytest.FixtureRequest, tmp_path: Path, server: Served) -> Callable[[Program], None]:
    """Run a program on a database of its own."""
    made = server.database() if request.param == "remote" else None
    where = made.url if made else tmp_path / "kv" if request.param == "file" else ":memory:"

    async def opened(program: Program) -> None:
        async with await async_client.open_kv(where, access_token=made.token if made else None) as kv:
            async with asyncio.timeout(30):
                await program(kv)

    return lambda program: asyncio.run(opened(program))


Run = Callable[[Program], None]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_both_clients_have_the_same_names() -> None:
    for one, other in (
        (sync_client.Kv, async_client.Kv),
        (sync_client.AtomicOperation, async_client.AtomicOperation),
        (sync_client.KvList, async_client.KvList),
    ):
        names = [{name for name in vars(each) if not name.startswith("_")} for each in (one, other)]
        assert names[0] == names[1]
        for name in names[0]:
            if callable(function := getattr(one, name)):
                parameters = [list(inspect.signature(each).parameters) for each in (function, getattr(other, name))]
                assert parameters[0] == parameters[1], name


def test_the_operations_do_what_they_do_without_await(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        result = await kv.set(("a", 1), {"x": [1, BigInt(2)]})
        assert (await kv.get(("a", 1))).versionstamp == result.versionstamp
        assert [entry.value for entry in await kv.get_many([("b",), ("a", 1)])] == [None, {"x": [1, 2]}]
        failed = await kv.atomic().check((("a", 1), None)).set(("b",), 1).commit()
        assert isinstance(failed, CommitFailed)
        assert failed.failed == (0,)
        assert await kv.atomic().sum(("n",), 2).set(("log", kv.commit_versionstamp()), 1).commit()
        assert (await kv.get(("n",))).value == KvU64(2)
        with pytest.raises(TypeMismatch):
            await kv.atomic().sum(("a", 1), 2).commit()
        await kv.delete(("a", 1))
        assert (await kv.get(("a", 1))).versionstamp is None

    run(program)


def test_a_list_reads_as_it_is_asked(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        await asyncio.gather(*(kv.set(("p", number), number) for number in range(25)))
        entries = kv.list(("p",), batch_size=4, limit=10)
        assert [entry.value async for entry in entries] == list(range(10))
        rest = kv.list(("p",), cursor=entries.cursor, reverse=False)
        assert [entry.value async for entry in rest] == list(range(10, 25))
        assert rest.cursor == ""

    run(program)


def test_writes_in_flight_each_get_their_own_result(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        await kv.set(("text",), "x")

        async def write(number: int) -> object:
            atomic = kv.atomic().sum(("n",), number)
            if number % 3 == 1:
                atomic.check((("text",), None))
            if number % 3 == 2:
                atomic.sum(("text",), 1)
            return await atomic.commit()

        results = await asyncio.gather(*(write(number) for number in range(300)), return_exceptions=True)
        assert all(bool(result) for result in results[0::3])
        assert all(isinstance(result, CommitFailed) for result in results[1::3])
        assert all(isinstance(result, TypeMismatch) for result in results[2::3])
        assert (await kv.get(("n",))).value == sum(range(0, 300, 3))

    run(program)


def test_a_cancelled_writer_hurts_nobody_else(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        tasks = [asyncio.create_task(kv.set((number,), number)) for number in range(50)]
        await asyncio.sleep(0)
        tasks[7].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [number for number, each in enumerate(done) if isinstance(each, BaseException)] == [7]
        assert (await kv.set(("after",), 1)).versionstamp

    run(program)


def test_a_watch_gives_each_change(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        async with kv.watch([("a",), ("b",)]) as watch:
            assert [entry.value for entry in await anext(watch)] == [None, None]
            following = asyncio.create_task(anext(watch))
            await kv.set(("other",), 1)
            await kv.set(("b",), 1)
            assert [entry.value for entry in await following] == [None, 1]
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        with pytest.raises(LimitExceeded):
            kv.watch([("a",)] * 11)

    run(program)


def test_a_watch_ends_with_its_database(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        watch = kv.watch([("a",)])
        await anext(watch)
        following = asyncio.create_task(anext(watch, "ended"))
        await asyncio.sleep(0)
        await kv.close()
        assert await following == "ended"
        with pytest.raises(Closed):
            await kv.get(("a",))
        with pytest.raises(Closed):
            await kv.set(("a",), 1)

    run(program)


def test_handlers_run_at_the_same_time(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        together = asyncio.Barrier(20)
        heard: list[Any] = []

        async def handler(message: Any) -> None:
            await together.wait()
            heard.append(message)

        listening = asyncio.create_task(kv.listen_queue(handler))
        await asyncio.gather(*(kv.enqueue(number) for number in range(20)))
        await until(lambda: len(heard) == 20)
        await kv.close()
        await listening
        assert sorted(heard) == list(range(20))

    run(program)


def test_closing_waits_for_handlers_and_one_of_them_may_close(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        finished: list[Any] = []

        async def handler(message: Any) -> None:
            if message == "close":
                await asyncio.wait_for(kv.close(), 60)  # in a task of its own
            else:
                await asyncio.sleep(0.1)
            finished.append(message)

        listening = asyncio.create_task(kv.listen_queue(handler))
        await kv.atomic().enqueue("slow").enqueue("close").commit()
        await listening
        assert sorted(finished) == ["close", "slow"]
        with pytest.raises(Closed):
            await kv.get(("a",))

    run(program)


def test_a_plain_function_may_handle_and_failures_are_tried_again(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        tries: list[Any] = []

        def handler(message: Any) -> None:
            tries.append(message)
            raise ValueError("no")

        listening = asyncio.create_task(kv.listen_queue(handler))
        await kv.enqueue("hard", backoff_schedule=[10, 20], keys_if_undelivered=[("dead",)])
        while (await kv.get(("dead",))).versionstamp is None:
            await asyncio.sleep(0.01)
        await kv.close()
        await listening
        assert tries == ["hard"] * 3

    run(program)


def test_reading_and_writing_start_no_thread_for_each_task(run: Run) -> None:
    async def program(kv: async_client.Kv) -> None:
        await asyncio.gather(*(kv.set((number,), number) for number in range(200)))
        assert sum(thread.name.startswith("kv_") for thread in threading.enumerate()) <= ELSEWHERE

    run(program)
