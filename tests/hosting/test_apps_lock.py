"""The lock for running a home's apps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.system.apps_lock import apps_run, take_apps
from provisioner.system.home import Home


def test_a_look_at_the_lock_keeps_no_process_from_running_apps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Home(str(home))
    place.create()
    looks = take_apps(place)
    assert looks is not None
    assert apps_run(place)
    left: list[float] = []

    def pause(seconds: float) -> None:
        if not left:
            os.close(looks)
        left.append(seconds)

    monkeypatch.setattr("provisioner.system.apps_lock.time.sleep", pause)
    runs = take_apps(place)
    assert runs is not None
    assert len(left) == 1
    assert take_apps(place) is None
    os.close(runs)
    assert not apps_run(place)
