"""Watching refs: what is left if the system has no thread to give."""

from __future__ import annotations

import threading

import pytest

from provisioner.git.watch import RefWatcher


def test_a_watcher_that_cannot_start_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    watcher = RefWatcher(lambda *_: None, lambda _: None, lambda _, why: pytest.fail(why))

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(watcher._observer, "start", refuse)
    with pytest.raises(RuntimeError):
        watcher.start()
    assert set(threading.enumerate()) == before
