"""What watches a router that was left for the next daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.hosting import linger
from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.process import RouterProcess
from provisioner.system.apps_lock import take_apps
from provisioner.system.home import Home


def test_what_outlives_the_daemon_runs_no_module_of_the_directory_it_was_started_in(tmp_path: Path, home: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit")
    home.mkdir(exist_ok=True)
    program = (
        "import subprocess, sys; from provisioner.hosting import linger; from provisioner.system.home import Home\n"
        "made = []; Popen = subprocess.Popen\n"
        "subprocess.Popen = lambda *a, **k: made.append(Popen(*a, **k)) or made[-1]\n"
        f"linger.leave_router(Home({str(home)!r}), 60.0); sys.exit(made[0].wait(60))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=planted, timeout=120, check=False)
    assert not (tmp_path / "ran").exists()
    assert done.returncode == 0  # there is no router


def test_a_router_that_a_daemon_has_taken_over_is_watched_no_longer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Home(str(home))
    place.create()
    os.makedirs(RouterProcess(place, RouterOptions()).directory)
    monkeypatch.setattr(RouterProcess, "runs", lambda _: True)
    looks: list[float] = []
    taken: list[int | None] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 3, "it still watches the router"
        if len(looks) == 2:
            taken.append(take_apps(place))

    monkeypatch.setattr("provisioner.hosting.linger.time.sleep", pause)
    linger.linger(place, 3600.0)
    assert len(looks) == 2
    assert taken[0] is not None
    os.close(taken[0])
