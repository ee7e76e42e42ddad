"""What a machine has run out of is said in one line, with the limit to raise: never a traceback, never "a bug"."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from support import Done, marked_shop, ok, run

from provisioner.core.errors import shortage

COMMANDS = {
    "status": "status",
    "kv get": """kv get '["a"]'""",
    "doctor": "doctor",
    "exec": "exec -- printenv DENO_TIMELINE",
}


def limited(repo: Path, limit: str, command: str) -> Done:
    return run(repo, "sh", "-c", f"ulimit {limit} && exec provisioner {command}")


def test_files_are_short(tmp_path: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    ok(repo, "kv", "set", '["a"]', "1")
    short = set()
    for files in (8, 12):
        for command in COMMANDS.values():
            done = limited(repo, f"-n {files}", command)
            assert "Traceback" not in done.stderr, (files, done)
            assert "bug" not in done.stderr + done.stdout, (files, done)
            assert len(done.stderr.splitlines()) <= 1, (files, done)
            if "files are open" in done.stderr + done.stdout:
                short.add(files)
            else:
                assert done.returncode == 0, (files, done)
    assert 8 in short


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT])
def test_it_is_told_by_its_number_wherever_it_comes_from(number: int) -> None:
    found = shortage(OSError(number, "whatever the system says", "/a/file"))
    assert found is not None
    assert "/a/file" in found.message
    assert found.hint


def test_a_full_pipe_is_no_lack_of_processes() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    pipe = open(writer, "wb", buffering=2**20)  # noqa: SIM115 - closing it fails
    with pytest.raises(BlockingIOError) as raised:
        pipe.write(bytes(2**22))
    os.close(reader)
    with suppress(BrokenPipeError):
        pipe.close()
    assert shortage(raised.value) is None


def test_memory_and_threads_are_short_without_a_number() -> None:
    for error, word in ((MemoryError(), "memory"), (RuntimeError("can't start new thread"), "threads")):
        found = shortage(error)
        assert found is not None
        assert word in found.message
    assert shortage(RuntimeError("anything else")) is None
    assert shortage(FileNotFoundError(errno.ENOENT, "no such file")) is None
