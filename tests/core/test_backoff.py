"""Waits between attempts."""

from __future__ import annotations

from provisioner.reconcile.plan.retry_delay import delay_ms
from provisioner.system.backoff import Backoff, after


def test_each_wait_is_twice_the_last_one_up_to_a_limit() -> None:
    backoff = Backoff(0.5, 3)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    assert backoff.pause == 3
    backoff.reset()
    assert backoff.next() == 0.5


def test_any_number_of_failures_has_a_wait() -> None:
    assert after(100_000, 0.1, 5) == 5
    assert [delay_ms(attempts) for attempts in (1, 2, 9, 10, 10_000)] == [1_000, 2_000, 256_000, 300_000, 300_000]
