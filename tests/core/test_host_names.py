"""Host names: a label for every branch that git can have, and never the same for two."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.host_names import LABEL_LIMIT, branch_label, host_name, is_host_name, revision_label

ADVERSARIAL = [
    *(b"login", b"Login", b"LOGIN", b"feature/login", b"feature-login", b"feature_login", b"feature.login"),
    *(b"a" * 63, b"a" * 64, b"-a", b"a-", b"a--b", b"a-b", b"xn--a", b"deadbeef", b"deadbee", b"0", b"production"),
    *(
        "ä".encode(),
        "a\u0308".encode(),
        b"\xff\xfe",
        "修正".encode(),
        b"localhost",
        b"www",
        b"..",
        b"*",
        b"@",
        b"a%2fb",
    ),
    *(branch_label(b"feature/login").encode(), b"branch", branch_label(b"\xff").encode()),
]


def test_no_two_branches_have_the_same_label() -> None:
    labels = [branch_label(branch) for branch in ADVERSARIAL]
    assert len(set(labels)) == len(set(ADVERSARIAL))
    assert all(is_host_name(label) and len(label) <= LABEL_LIMIT for label in labels)


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=300))
def test_labels_are_injective_and_safe(one: bytes, other: bytes) -> None:
    assert is_host_name(branch_label(one))
    assert len(branch_label(one)) <= LABEL_LIMIT
    assert (branch_label(one) == branch_label(other)) == (one == other)
    assert branch_label(branch_label(one).encode()) != branch_label(one) or branch_label(one).encode() == one


@given(st.binary(min_size=1, max_size=80), st.text("0123456789abcdef", min_size=40, max_size=64))
def test_no_branch_has_the_label_of_a_revision(branch: bytes, revision: str) -> None:
    assert branch_label(branch) != revision_label(revision)
    assert branch_label(revision_label(revision).encode()) != revision_label(revision)


def test_a_plain_name_is_kept() -> None:
    assert branch_label(b"login") == "login"
    assert host_name("shop", branch_label(b"login"), "localhost") == "login.shop.localhost"
    assert host_name("shop", "", "localhost") == "shop.localhost"


def test_what_is_no_host_name() -> None:
    for text in (
        "",
        ".",
        "..",
        "a..b",
        "A",
        "a/b",
        "a b",
        "-a",
        "a-",
        "a" * 64,
        "a\n",
        "a.b.",
        "*",
        "é",
        ".".join(["a" * 60] * 5),
    ):
        assert not is_host_name(text), text
