"""A file with our block in it is its user's: what they made of it is kept, or nothing is written."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dotenv import dotenv_values
from support import files, git, ok, provisioner, repository, run

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.environment import env_block

BLOCK = (env_block.BEGIN + "X=1\n" + env_block.END).encode()
NEWER = (env_block.BEGIN + "X=22\n" + env_block.END).encode()


def windows(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    shop = repository(tmp_path / "shop", "login")
    ok(shop, "init")
    return shop


@pytest.mark.parametrize("before", [b"", b"A=1\r\n", b"A=1\r\n\r\n# mine\r\n"])
@pytest.mark.parametrize("after", [b"B=2\r\n", b"B=2\r\nC=3"])
def test_a_block_in_a_file_of_windows_lines_is_found_again_and_is_like_them(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = tmp_path / ".env"
    path.write_bytes(before + after)
    env_block.write(str(path), "X=1\n")
    ends = b"" if after.endswith(b"\n") else b"\r\n"
    assert path.read_bytes() == before + after + ends + windows(BLOCK)
    for block in (BLOCK, windows(BLOCK)):
        path.write_bytes(before + block + after)
        env_block.write(str(path), "X=22\n")
        assert path.read_bytes() == before + windows(NEWER) + after
    assert dotenv_values(path)["X"] == "22"


def test_an_editor_may_have_turned_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    for turned in (b"A=1\n" + windows(BLOCK) + b"B=2\n", b"\xef\xbb\xbf" + BLOCK + b"B=2\n", b"A=1\n" + BLOCK[:-1]):
        path.write_bytes(turned)
        env_block.write(str(path), "X=22\n")
        rest = turned.replace(windows(BLOCK), b"?").replace(BLOCK, b"?").replace(BLOCK[:-1], b"?")
        assert path.read_bytes() == rest.replace(b"?", NEWER)


def test_of_several_blocks_one_is_left(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\r\n" + windows(BLOCK) + b"B=2\r\n" + BLOCK + b"C=3\r\n")
    env_block.write(str(path), "X=22\n")
    assert path.read_bytes() == b"A=1\r\n" + windows(NEWER) + b"B=2\r\nC=3\r\n"


def test_real_deno_and_sh_read_what_stands_between_windows_lines(shop: Path) -> None:
    wanted = files(shop)["main"]
    (shop / ".env").write_bytes(b"A=1\r\n")
    ok(shop, "env", "--write", ".env")
    assert b"\n" not in (shop / ".env").read_bytes().replace(b"\r\n", b"")
    program = "Deno.stdout.writeSync(new TextEncoder().encode(Deno.env.get('DENO_KV_DEFAULT_PATH')))"
    (shop / "main.ts").write_text(program)
    assert run(shop, "deno", "run", "-A", "--env-file=.env", "main.ts", check=True).stdout == str(wanted)
    (shop / ".env.sh").write_bytes(b"A=1\r\n")
    ok(shop, "env", "--format", "shell", "--write", ".env.sh")
    read = run(shop, "sh", "-c", '. ./.env.sh; printf %s "$DENO_KV_DEFAULT_PATH"', check=True)
    assert read.stdout == str(wanted)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"A=1\n" + BLOCK[: BLOCK.index(b"X")] + b"X=1\nB=2\n", "has no end"),
        (BLOCK[: BLOCK.index(b"# <<<")] + BLOCK, "has no end"),
        (b"X=1\n" + env_block.END.encode() + b"B=2\n", "has no beginning"),
        (BLOCK + env_block.END.encode(), "has no beginning"),
    ],
)
def test_where_the_block_cannot_be_told_nothing_is_written(shop: Path, text: bytes, why: str) -> None:
    (shop / ".env").write_bytes(text)
    refused = provisioner(shop, "env", "--write", ".env")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"the provisioner block in .env {why}" in refused.stderr
    assert (shop / ".env").read_bytes() == text
    assert not (shop / ".git/provisioner/env-files").exists()


def test_a_link_is_written_through(shop: Path) -> None:
    (shop / "settings").mkdir()
    target = shop / "settings/env"
    target.write_text("MINE=1\n")
    target.chmod(0o640)
    (shop / ".env").symlink_to("settings/env")
    ok(shop, "env", "--write", ".env")
    assert (shop / ".env").is_symlink()
    assert dotenv_values(target)["DENO_TIMELINE"] == "production"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    git(shop, "switch", "-q", "login")
    assert dotenv_values(target)["DENO_TIMELINE"] == "git-branch/login"


@pytest.mark.parametrize("target", ["../precious", ".git/config"])
def test_what_a_branch_brings_along_leads_us_nowhere_else(shop: Path, target: str) -> None:
    ok(shop, "env", "--write", ".env.local")
    (shop / ".env.local").unlink()
    precious = shop / target
    if not precious.exists():
        precious.write_text("precious")
    before = precious.read_bytes()
    git(shop, "switch", "-q", "login")
    (shop / ".env.local").unlink()
    (shop / ".env.local").symlink_to(target)
    git(shop, "add", ".env.local")
    git(shop, "commit", "-q", "-m", "look here")
    git(shop, "switch", "-q", "main")
    switched = git(shop, "switch", "-q", "--force", "login")
    assert "outside of the checkout's files" in switched.stderr
    refused = provisioner(shop, "env", "--write", ".env.local")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert precious.read_bytes() == before


def test_a_file_elsewhere_is_written_once_where_that_is_said(shop: Path, tmp_path: Path) -> None:
    refused = provisioner(shop, "env", "--write", "../elsewhere")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert not (tmp_path / "elsewhere").exists()
    ok(shop, "env", "--branch", "login", "--write", "../elsewhere")
    assert dotenv_values(tmp_path / "elsewhere")["DENO_TIMELINE"] == "git-branch/login"


def test_a_file_that_cannot_be_kept_up_does_not_stop_the_others(shop: Path) -> None:
    for name in (".env.one", ".env.two"):
        ok(shop, "env", "--write", name)
    with (shop / ".env.one").open("a") as file:
        file.write(env_block.BEGIN)
    switched = git(shop, "switch", "-q", "login")
    assert ".env.one IS LEFT AS IT WAS" in switched.stderr
    assert dotenv_values(shop / ".env.two")["DENO_TIMELINE"] == "git-branch/login"


@contextmanager
def _somebody_else() -> Iterator[None]:
    """Give up root's privileges, for which every file is readable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_an_error() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, ".env")
        path.write_text("MINE=1\n")
        path.chmod(0)
        with _somebody_else(), pytest.raises(StorageFailed, match="Permission denied"):
            env_block.write(str(path), "X=1\n")
        path.chmod(0o600)
        assert path.read_text() == "MINE=1\n"


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    subprocess.run(["mkfifo", tmp_path / "fifo"], check=True)
    for name in ("directory", "fifo", "missing/file"):
        with pytest.raises(ProvisionerError):
            env_block.write(str(tmp_path / name), "X=1\n")
