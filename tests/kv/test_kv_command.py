"""`provisioner kv` on the checkout's own database, and the notation of keys and values that it speaks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from support import git, ok, shop
from test_kv_values import same, values

from provisioner.cli.commands.kv import delete
from provisioner.core.errors import ProvisionerError
from provisioner.kv import KeyInvalid, ValueInvalid, limits, open_kv
from provisioner.kv.codec import json_notation
from provisioner.kv.dump import prefix_deletion
from provisioner.kv.dump.load import write_all
from provisioner.kv.model import KeyLike, Mutation
from provisioner.kv.store import Store


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def said(repo: Path, *words: str) -> str:
    return ok(repo, *words).removesuffix("\n")


def failed(repo: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(["provisioner", "kv", *words], cwd=repo, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_each_branch_has_its_own_entries(repo: Path) -> None:
    said(repo, "kv", "set", '["users", 1]', '{"name": "Ann"}')
    assert said(repo, "kv", "get", '["users", 1]') == '{"name": "Ann"}'
    git(repo, "switch", "-q", "login")
    assert failed(repo, "get", '["users", 1]')[0] == 1
    assert said(repo, "kv", "get", "--branch", "main", '["users", 1]') == '{"name": "Ann"}'
    said(repo, "kv", "delete", "--branch", "main", "--yes", '["users", 1]')
    assert json.loads(said(repo, "kv", "get", "--json", "--branch", "main", '["users", 1]')) == {
        "key": ["users", 1],
        "value": None,
        "versionstamp": None,
    }


def test_a_deletion_that_is_stopped_says_how_much_is_deleted_and_counts_only_to_ask(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    with open_kv(json.loads(said(repo, "env", "--format", "json"))["DENO_KV_DEFAULT_PATH"]) as kv:
        for number in range(12):
            kv.set(("users", number), number)
    monkeypatch.setattr(limits, "MUTATIONS", 5)
    writes = []

    def stopped(store: Store, mutations: Sequence[Mutation]) -> None:
        writes.append(mutations)
        if len(writes) % 3 == 0:
            raise KeyboardInterrupt
        write_all(store, mutations)

    monkeypatch.setattr(prefix_deletion, "write_all", stopped)
    scans: list[KeyLike] = []
    keys_under = prefix_deletion.keys_under

    def scanned(store: Store, prefix: KeyLike) -> Iterator[bytes]:
        scans.append(prefix)
        return keys_under(store, prefix)

    monkeypatch.setattr(prefix_deletion, "keys_under", scanned)
    words = ["--prefix", '["users"]', "--yes"]
    with pytest.raises(ProvisionerError, match=re.escape("stopped; at least 10 keys with the prefix")) as error:
        delete.main(words, standalone_mode=False)
    assert str(error.value).endswith(" are deleted. To delete the rest, run the command again")
    assert len(scans) == 1
    assert len(said(repo, "kv", "list").splitlines()) == 2
    delete.main(words, standalone_mode=False)
    assert said(repo, "kv", "list") == ""


def test_text_goes_in_and_out_as_it_is(repo: Path) -> None:
    said(repo, "kv", "set", "--raw", '["a"]', "no JSON")
    assert said(repo, "kv", "get", "--raw", '["a"]') == "no JSON"
    assert said(repo, "kv", "get", '["a"]') == '"no JSON"'
    said(repo, "kv", "set", '["b"]', '{"$bytes": "AAE="}')
    raw = subprocess.run(["provisioner", "kv", "get", "--raw", '["b"]'], cwd=repo, capture_output=True, check=True)
    assert raw.stdout == b"\0\1"
    stdin = subprocess.run(
        ["provisioner", "kv", "set", "--raw", '["c"]', "-"], cwd=repo, input=b"from stdin", check=True
    )
    assert stdin.returncode == 0
    assert said(repo, "kv", "get", '["c"]') == '"from stdin"'


def test_a_list_streams_and_continues(repo: Path) -> None:
    path = json.loads(said(repo, "status", "--json"))[0]["databases"][0]["path"]
    with open_kv(path) as kv:
        for start in range(0, 3000, 500):
            atomic = kv.atomic()
            for number in range(start, start + 500):
                atomic.set(("p", number), number)
            atomic.commit()
    lines = said(repo, "kv", "list").splitlines()
    assert len(lines) == 3000
    assert lines[7] == '["p", 7]\t7'
    assert len(json.loads(said(repo, "kv", "list", "--json", '["p"]'))) == 3000
    assert json.loads(said(repo, "kv", "list", "--json", '["q"]')) == []
    command = ["provisioner", "kv", "list", "--limit", "2", "--reverse", '["p"]']
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    cursor = done.stderr.removeprefix("cursor: ").strip()
    assert done.stdout.splitlines() == ['["p", 2999]\t2999', '["p", 2998]\t2998']
    rest = said(repo, "kv", "list", "--limit", "1", "--reverse", "--cursor", cursor, '["p"]')
    assert rest == '["p", 2997]\t2997'
    between = said(repo, "kv", "list", "--start", '["p", 5]', "--end", '["p", 7]').splitlines()
    assert between == ['["p", 5]\t5', '["p", 6]\t6']


def test_a_watch_prints_each_change(repo: Path) -> None:
    command = [sys.executable, "-m", "provisioner", "kv", "watch", "--count", "2", '["a"]', '["b"]']
    process = subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [entry["value"] for entry in json.loads(process.stdout.readline())] == [None, None]
    said(repo, "kv", "set", '["b"]', "5")
    assert [entry["value"] for entry in json.loads(process.stdout.readline())] == [None, 5]
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("get", "users"), 2, "JSON array"),
        (("get", '"users"'), 2, "JSON array"),
        (("get", "[null]"), 2, "parts"),
        (("set", '["a"]', "{"), 2, "JSON"),
        (("set", '["a"]', '{"$what": 1}'), 2, "notation"),
        (("set", "[]", "1"), 2, "at least one part"),
        (("get", '["none"]'), 1, "nothing is stored under"),
        (("delete", '["a"]'), 1, "--yes"),
        (("list", "--cursor", "!", "[]"), 2, "cursor"),
        (("list", "--start", '["b"]', "--end", '["a"]'), 2, "greater"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_an_exit_code(
    repo: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    status, message = failed(repo, *words)
    assert status == code, message
    assert text in message
    assert len(message.splitlines()) == 1


@given(values)
def test_values_come_back_from_json_as_they_were(one: Any) -> None:
    text = json_notation.text_of(json_notation.to_json(_decoded(one)))
    assert same(one, _decoded(json_notation.value_of(text)))


def _decoded(one: Any) -> Any:
    from provisioner.kv.codec import value

    return value.decode(*value.encode(one))


@pytest.mark.parametrize(
    "text",
    [
        '{"$bigint": "123456789012345678901"}',
        '{"$u64": "5"}',
        '{"$bytes": "AAE="}',
        '{"$number": "-0"}',
        '{"$date": "2026-01-02T03:04:05.678Z"}',
        '{"$date": null}',
        '{"$undefined": true}',
        '{"$regexp": ["a+", "im"]}',
        '{"$set": [1]}',
        '{"$map": [["a", {"$set": []}]]}',
        '{"$object": {"$bigint": "no bigint"}}',
        '{"a": {"b": [1, 2.5, "x", null, true]}}',
    ],
)
def test_the_notation_comes_back_as_it_was(text: str) -> None:
    assert json_notation.text_of(json_notation.to_json(json_notation.value_of(text))) == text


@pytest.mark.parametrize(
    "text",
    ['{"$bytes": "é"}', '{"$u64": "-1"}', '{"$regexp": ["(", ""]}', '{"$date": "2026-01-02"}', "[", '{"$map": 5}'],
)
def test_a_notation_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(ValueInvalid):
        json_notation.value_of(text)


def test_keys_have_the_notation_too() -> None:
    assert json_notation.key_of('["a", 1, {"$bytes": "AAE="}, {"$bigint": "-5"}, true]') == ("a", 1, b"\0\1", -5, True)
    with pytest.raises(KeyInvalid):
        json_notation.key_of('[{"$bytes": 5}]')


def test_sets_are_printed_in_the_order_that_they_have(repo: Path) -> None:
    written = '{"$set": ["zebra", 3, "apple", {"$set": ["b", "a", 1]}, 2, 1]}'
    said(repo, "kv", "set", '["set"]', written)
    assert json.loads(said(repo, "kv", "get", '["set"]')) == json.loads(written)
    assert json.loads(said(repo, "kv", "get", "--json", '["set"]'))["value"] == json.loads(written)
    assert json.loads(said(repo, "kv", "list", "--json"))[0]["value"] == json.loads(written)
    assert json.loads(said(repo, "kv", "watch", "--count", "1", '["set"]'))[0]["value"] == json.loads(written)
