"""Directories that somebody else can write to, or owns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import IN_CI, connected, git, ok, provisioner, repository, run

from provisioner.system.atomic_file import replace_file


def test_a_home_that_everybody_may_write_to_is_not_believed(tmp_path: Path, home: Path) -> None:
    shop = repository(tmp_path / "shop")
    ok(shop, "init", "--no-hooks")
    home.chmod(0o777)
    refused = provisioner(shop, "reconcile")
    assert refused.returncode == 1
    assert f"Run: chmod 700 {home}" in refused.stderr
    assert provisioner(shop, "doctor").returncode == 1
    home.chmod(0o700)
    ok(shop, "reconcile")


def test_a_home_behind_a_link_is_the_same_home(tmp_path: Path, home: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    home.symlink_to("elsewhere")
    shop = repository(tmp_path / "shop", "login")
    ok(shop, "init")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700
    assert connected(shop) == {"main", "login"}
    same = {"PROVISIONER_HOME": str(tmp_path / "elsewhere")}
    ok(shop, "exec", "--", "true", add=same)
    assert home.is_symlink()


def test_a_file_is_never_written_through_a_link_beside_it(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / f".env.{os.getpid()}.new").symlink_to(precious)
    replace_file(str(tmp_path / ".env"), b"X=1\n", 0o600)
    assert precious.read_text() == "precious"
    assert (tmp_path / ".env").read_bytes() == b"X=1\n"


def test_a_repository_of_somebody_else_is_registered_only_where_git_trusts_it(tmp_path: Path, home: Path) -> None:
    if os.geteuid() != 0:
        assert not IN_CI, "CI has to run this as root"
        pytest.skip("only root can give a repository away")
    shop = repository(tmp_path / "shop")
    git(shop, "config", "core.hooksPath", str(tmp_path / "chosen"))
    run(tmp_path, "chown", "-R", "65534", shop, check=True)
    refused = provisioner(shop, "init")
    assert refused.returncode == 1
    assert f"git config --global --add safe.directory {shop}" in refused.stderr
    assert not (tmp_path / "chosen").exists()
    git(tmp_path, "config", "--global", "--add", "safe.directory", str(shop))
    ok(shop, "init")
    assert connected(shop) == {"main"}


def test_a_home_of_somebody_else_is_an_error_and_no_stack_trace(tmp_path: Path) -> None:
    refused = provisioner(tmp_path, "watch", add={"PROVISIONER_HOME": "/proc/nowhere"})
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "Change its owner, or set PROVISIONER_HOME" in refused.stderr
