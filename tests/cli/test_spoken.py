"""A success says so in one line, lengths of time have units, and an old spelling still works with a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import ok, provisioner, shop


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop")


def test_what_used_to_succeed_in_silence_says_what_it_did(repo: Path) -> None:
    assert provisioner(repo, "kv", "set", '["a"]', "1").stderr == 'Set ["a"]\n'
    assert provisioner(repo, "kv", "delete", '["a"]', "--yes").stderr == 'Deleted ["a"]\n'
    assert provisioner(repo, "kv", "delete", '["a"]', "--yes").stderr == 'Nothing is stored under ["a"]\n'
    assert provisioner(repo, "reconcile").stderr == "shop: no change\n"


def test_a_key_expires_after_a_time_with_a_unit(repo: Path) -> None:
    ok(repo, "kv", "set", '["a"]', "1", "--expires-in", "90min")
    assert '"expire' in ok(repo, "database", "dump", "main").splitlines()[1]
    refused = provisioner(repo, "kv", "set", '["a"]', "1", "--expires-in", "soon")
    assert refused.returncode == 2


def test_old_spellings_work_with_a_note_on_stderr(repo: Path) -> None:
    key = provisioner(repo, "kv", "set", '["a"]', "1", "--expire-in", "600000")
    assert key.returncode == 0
    assert "note: --expire-in MS is now --expires-in DURATION. The old name stops working in 0.3" in key.stderr
    preview = provisioner(repo, "preview", "create", "HEAD", "--ttl", "2h", "--json")
    assert "note: --ttl is now --expires-in" in preview.stderr
    assert json.loads(preview.stdout)["timeline"].startswith("preview/")
    both = provisioner(repo, "preview", "create", "HEAD", "--ttl", "2h", "--expires-in", "2h")
    assert both.returncode == 2
