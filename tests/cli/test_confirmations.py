"""What asks before it removes or replaces data: a yes for branches, the typed name of the app for production's data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import ok, provisioner, shop
from terminal_session import terminal

pytestmark = pytest.mark.slow

PRODUCTION = {
    "database archive": ("main",),
    "database restore": ("main", "kept"),
    "database load": ("main", "DUMP", "--replace"),
    "database snapshot delete": ("SNAPSHOT",),
    "kv delete": ('["a"]', "--branch", "main"),
    "unassign": ("default",),
    "app remove": (),
}
BRANCH = {
    "database archive": ("login",),
    "database restore": ("login", "kept"),
    "database load": ("login", "DUMP", "--replace"),
    "kv delete": ('["a"]', "--branch", "login"),
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = shop(tmp_path / "shop", "login")
    for branch in ("login", "main"):
        ok(made, "kv", "set", '["a"]', "1", "--branch", branch)
        ok(made, "database", "snapshot", "create", branch, "--label", "kept")
    ok(made, "database", "dump", "main", "--output", "dump")
    return made


def asked(repo: Path, name: str, words: tuple[str, ...], answer: str) -> tuple[str, str]:
    """The question of a command at a terminal, and what it prints after the answer, with its exit code."""
    kept = json.loads(ok(repo, "database", "snapshot", "list", "main", "--json"))[0]["id"]
    given = [{"SNAPSHOT": kept, "DUMP": "./dump"}.get(word, word) for word in words]
    command = ("sh", "-c", '"$@"; echo ended with $?', "sh", "provisioner", *name.split(" "), *given)
    with terminal(repo, *command, columns=500) as session:
        question = session.until(r"\[y/N\]: $|to confirm: $")
        session.type(f"{answer}\n")
        return question, session.until(r"ended with \d+\n").strip()


def test_production_is_lost_only_by_typing_the_name_of_its_app(repo: Path) -> None:
    for name, words in PRODUCTION.items():
        question, after = asked(repo, name, words, "y")
        assert re.search(r"[.?] Type shop to confirm: $", question), (name, question)
        assert "provisioner: 'y' is not 'shop'. Nothing was changed" in after, (name, after)
        assert after.endswith("ended with 1"), (name, after)
    _, after = asked(repo, "database restore", ("main", "kept"), "shop")
    assert after.endswith("ended with 0"), after


def test_data_of_a_branch_is_lost_after_a_yes(repo: Path) -> None:
    for name, words in BRANCH.items():
        question, after = asked(repo, name, words, "n")
        assert re.search(r"[.?] \[y/N\]: $", question), (name, question)
        assert "provisioner: not confirmed. Nothing was changed" in after, (name, after)
        assert after.endswith("ended with 1"), (name, after)


def test_keys_of_production_are_lost_only_by_its_name_also_through_a_timeline_that_shares_them(repo: Path) -> None:
    ok(repo, "database", "share", "main", "login", "--yes")
    question, after = asked(repo, "kv delete", ("--prefix", "[]", "--branch", "login"), "y")
    which = r"Delete 1 key with the prefix \[\] from shop-production-\S+\?"
    assert re.fullmatch(which + r" git-branch/login uses it too\. Type shop to confirm: ", question), question
    assert after.endswith("ended with 1"), after
    assert ok(repo, "kv", "list", "--branch", "main") == '["a"]\t1\n'


def test_without_a_terminal_only_yes_answers_and_the_error_reads_as_sentences(repo: Path) -> None:
    for name, words in {"database archive": ("main",), "database load": ("login", "dump", "--replace")}.items():
        refused = provisioner(repo, *name.split(" "), *words)
        assert refused.returncode == 1
        assert re.fullmatch(
            r"provisioner: confirmation required: [^?]+\?( [^.]+\.)? Add --yes to skip the prompt\n", refused.stderr
        ), refused.stderr


def test_yes_answers_both_kinds(repo: Path) -> None:
    ok(repo, "kv", "delete", '["a"]', "--yes")
    ok(repo, "database", "restore", "main", "kept", "-y")
    ok(repo, "app", "remove", "-y")


def test_kv_delete_takes_a_prefix_and_says_how_many_keys_it_deletes(repo: Path) -> None:
    for key in ('["users", 1]', '["users", "x", 2]', '["users"]', '["usersx"]'):
        ok(repo, "kv", "set", key, "1", "--branch", "login")
    question, after = asked(repo, "kv delete", ("--prefix", '["users"]', "--branch", "login"), "y")
    assert question == 'Delete 2 keys with the prefix ["users"]? [y/N]: '
    assert 'Deleted 2 keys with the prefix ["users"]' in after
    left = [line.split("\t")[0] for line in ok(repo, "kv", "list", "--branch", "login").splitlines()]
    assert [key for key in left if "users" in key] == ['["users"]', '["usersx"]']
    document = json.loads(ok(repo, "kv", "delete", "--prefix", "[]", "--branch", "login", "--yes", "--json"))
    assert document == {"key": [], "deleted": len(left)}
    assert ok(repo, "kv", "list", "--branch", "login") == ""
