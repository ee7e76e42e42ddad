"""Any name that git allows gets a database of its own, also on disks that fold case."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import git, ok, provisioner, repository, rows, status

from provisioner.core import naming
from provisioner.core.ids import AppId

_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|^@$|(^|/)\.|\.lock(/|$)")


def legal(name: bytes) -> bool:
    """git-check-ref-format(1)"""
    return 1 <= len(name) <= 200 and not _FORBIDDEN.search(name)


_ALPHABET = "abcABCxyzXYZ0189-_./+=@#%&!'\"$(),;<>{}|`éÉßİıñüÜ日本語🌱"
_texts = st.text(_ALPHABET, min_size=1, max_size=60)
_names = st.one_of(
    st.binary(min_size=1, max_size=200),
    _texts.map(str.encode),
    _texts.map(lambda text: unicodedata.normalize("NFD", text).encode()),
    _texts.map(lambda text: text.swapcase().encode()),
    st.text("aA-", min_size=1, max_size=200).map(str.encode),
    _texts.map(lambda text: naming.database_name("shop", AppId("id"), b"git-branch/" + text.encode()).encode()),
).filter(legal)
_slugs = st.text("abz09-", min_size=1, max_size=60).map(lambda text: naming.slug(text, 40) or "app")


@given(_slugs, st.sets(_names, min_size=2, max_size=30))
def test_every_timeline_has_a_name_of_its_own(app: str, branches: set[bytes]) -> None:
    timelines = [naming.timeline_name(branch, production=False) for branch in branches] + [naming.PRODUCTION]
    names = [naming.database_name(app, AppId("id"), timeline) for timeline in timelines]
    assert len({name.casefold() for name in names}) == len(timelines)


@given(_slugs, _names)
def test_a_name_is_short_plain_and_ends_in_its_hash(app: str, branch: bytes) -> None:
    for production in (True, False):
        name = naming.database_name(app, AppId("id"), naming.timeline_name(branch, production=production))
        assert len(name.encode()) <= naming.NAME_LIMIT
        assert re.fullmatch(r"[a-z0-9-]+-[0-9a-z]{25}", name)


@given(_slugs, _names, _slugs)
def test_databases_of_a_timeline_on_several_instances_have_several_names(app: str, branch: bytes, slug: str) -> None:
    for production in (True, False):
        timeline = naming.timeline_name(branch, production=production)
        names = {
            naming.database_name(app, AppId("id"), timeline, each) for each in (None, (slug, "one"), (slug, "other"))
        }
        assert len(names) == 3
        for name in names:
            assert len(name.encode()) <= naming.NAME_LIMIT
            assert re.fullmatch(r"[a-z0-9-]+-[0-9a-z]{25}", name)


def test_names_that_agree_in_48_bits_of_a_hash_are_two_names() -> None:
    """A pair that was found in a minute: a name once had so many bits, and everything before them is cut alike."""
    timelines = [b"git-branch/" + b"a" * 44 + end for end in (b"/76ac16", b"/14aac2c")]
    assert len({sha256(b"shop\0" + timeline).hexdigest()[:12] for timeline in timelines}) == 1
    assert len({naming.database_name("shop", AppId("id"), timeline) for timeline in timelines}) == 2


def test_branches_that_were_chosen_to_be_called_alike_stop_no_other(tmp_path: Path) -> None:
    pair = ["a" * 44 + end for end in ("/76ac16", "/14aac2c")]
    repo = repository(tmp_path / "shop", *pair, "bystander")
    ok(repo, "init", "--no-hooks", "--name", "shop")
    assert {row["branch"]: row["status"] for row in status(repo)} == dict.fromkeys(
        ["main", "bystander", *pair], "connected"
    )


def test_a_name_has_at_least_128_bits_of_a_hash() -> None:
    assert len(set(naming._DIGITS)) ** naming.HASH_DIGITS >= 2**128
    assert naming.database_name("shop", AppId("one"), b"production") != naming.database_name(
        "shop", AppId("other"), b"production"
    )


@given(_slugs, _names)
def test_app_and_branch_share_the_room_in_front(app: str, branch: bytes) -> None:
    name = naming.database_name(app, AppId("id"), b"git-branch/" + branch)
    said = name[: -naming.HASH_DIGITS - 1]
    whole = naming.slug(os.fsdecode(branch), 63)
    assert said.startswith(app[:17].rstrip("-"))
    assert whole[:17].rstrip("-") in said


@given(_names)
def test_case_and_normalization_make_other_names(branch: bytes) -> None:
    text = os.fsdecode(branch)
    variants = {branch, text.swapcase().encode("utf-8", "surrogateescape")}
    variants |= {unicodedata.normalize(form, text).encode("utf-8", "surrogateescape") for form in ("NFC", "NFD")}
    assert len({naming.database_name("shop", AppId("id"), b"git-branch/" + variant) for variant in variants}) == len(
        variants
    )


NASTY = [
    b"login",
    b"Login",
    b"LOGIN",
    b"feature/a",
    b"feature-a",
    b"feature.a",
    b"feature_a",
    b"-dash",
    b"production",
    b"git-branch/main",
    b"Main",
    b"it's",
    b'say-"hi"',
    b"$HOME",
    b"${HOME}",
    b"$(id)",
    b"`id`",
    b"a;b&c|d",
    b"100%",
    "é".encode(),
    unicodedata.normalize("NFD", "é").encode(),
    "日本語/🌱".encode(),
    b"latin-\xe9",
    b"\xff\xfe",
    b"x" * 200,
    b"x" * 199 + b"y",
    b"shop--login-" + naming.database_name("shop", AppId("id"), b"git-branch/login")[-25:].encode(),
]


@pytest.mark.timeout(120)
def test_nasty_names_are_provisioned_resolved_and_archived(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "init", "--no-hooks", "--name", "shop", "--grace", "0s")
    for name in NASTY:
        git(repo, "update-ref", b"refs/heads/" + name, "HEAD")
    ok(repo, "reconcile")

    listed = {os.fsencode(row["timeline"]): row for row in rows(repo)}
    assert set(listed) == {b"production"} | {b"git-branch/" + name for name in NASTY}
    assert {row["status"] for row in listed.values()} == {"connected"}
    assert len({row["path"].casefold() for row in listed.values()}) == len(listed)
    assert len({row["name"].casefold() for row in listed.values()}) == len(listed)

    for name in NASTY:
        row = listed[b"git-branch/" + name]
        seen = ok(repo, "exec", b"--branch=" + name, "--", "printenv", "DENO_TIMELINE", "DENO_KV_DEFAULT_PATH")
        assert os.fsencode(seen) == b"git-branch/" + name + b"\n" + os.fsencode(row["path"]) + b"\n"
        printed = json.loads(ok(repo, "env", b"--branch=" + name, "--format", "json"))
        assert os.fsencode(printed["DENO_TIMELINE"]) == b"git-branch/" + name
        assert printed["DENO_KV_DEFAULT_PATH"] == row["path"]

    for name in NASTY:
        git(repo, "update-ref", "-d", b"refs/heads/" + name)
    ok(repo, "reconcile")
    assert {row["timeline"]: row["status"] for row in rows(repo) if row["status"] != "archived"} == {
        "production": "connected"
    }
    assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
