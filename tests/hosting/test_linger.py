"""What watches a router that was left for the next daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
