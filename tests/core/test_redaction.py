"""Secrets are taken out of text in all their written forms, however the text comes, and in linear time."""

from __future__ import annotations

import base64
import html
import json
import random
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.redaction import HIDDEN, RedactedStream, Redactor, Secret, secrets_in

SECRET = "p$ss \"w'rd\\</é+%20"
FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded path": quote,
    "percent-encoded in lowercase": lambda text: quote(text, safe="").lower(),
    "form": quote_plus,
    "JSON": lambda text: json.dumps({"key": text}),
    "JSON with Unicode": lambda text: json.dumps([text], ensure_ascii=False),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "shell": shlex.quote,
    "shell as bash prints it": lambda text: "'" + text.replace("'", "'\\''") + "'",
    "Python": repr,
    "HTML": html.escape,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic authentication": lambda text: base64.b64encode(b"user:" + text.encode()).decode(),
    "base64 of a line": lambda text: base64.b64encode(b"ab" + text.encode() + b"\n").decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in capitals": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_each_form(form: str) -> None:
    text = FORMS[form](SECRET)
    told = Redactor([Secret(SECRET)]).text(f"before {text} after")
    assert told.startswith("before ")
    assert told.endswith(" after")
    assert HIDDEN in told
    assert all(text[at : at + 12] not in told for at in range(4, max(5, len(text) - 16)))


def test_what_is_not_secret_stays() -> None:
    text = "connection to 127.0.0.1:5432 refused on git-branch/production"
    assert Redactor([Secret(SECRET)]).text(text) == text


def test_lines_of_a_secret_with_several_are_hidden_each() -> None:
    key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----\n"
    told = Redactor([Secret(key)]).text(f"{json.dumps(key)}\n{key}")
    assert told.replace(HIDDEN, "").replace("\n", "").strip('"') in ("", '"')


def test_a_short_secret_is_hidden_where_it_cannot_be_taken_for_other_text() -> None:
    redactor = Redactor([Secret("4711", "PIN"), Secret("on", "FLAG")])
    told = redactor.text('pin 4711, order 947110, PIN=4711 on time FLAG=on "FLAG": "on" only FLAG=once')
    assert told == 'pin •••, order 947110, PIN=••• on time FLAG=••• "FLAG": "•••" only FLAG=once'


def test_passwords_in_urls_are_secrets_whatever_the_variable_is_called() -> None:
    found = secrets_in({"REPLICA": "mysql://u:a%2Fbcdef@host/x", "SITE": "https://example.org/@x", "PORT": "8000"})
    assert {secret.value for secret in found} == {"a%2Fbcdef", "a/bcdef"}
    assert "abcdef" not in repr(Secret("abcdef"))


@given(
    secrets=st.lists(st.text(min_size=6, max_size=40), max_size=4),
    text=st.lists(st.one_of(st.integers(0, 3), st.text(max_size=30)), max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_a_stream_says_what_the_whole_text_says_wherever_it_is_cut(
    secrets: list[str], text: list[int | str], cuts: list[int]
) -> None:
    parts = [secrets[part % len(secrets)] if isinstance(part, int) and secrets else str(part) for part in text]
    data = "".join(parts).encode("utf-8", "surrogatepass")
    usable = [secret for secret in secrets if not any("\ud800" <= char <= "\udfff" for char in secret)]
    redactor = Redactor(map(Secret, usable))
    stream, told, at = RedactedStream(redactor), b"", 0
    for cut in [*sorted(cuts), len(data)]:
        told += stream.write(data[at : max(at, cut)])
        at = max(at, cut)
    told += stream.close()
    assert told == redactor.data(data)
    for secret in usable:
        if "\n" not in secret:
            assert secret.encode() not in told


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_a_secret_in_a_line_of_megabytes_is_hidden_wherever_it_is_cut(size: int) -> None:
    chance = random.Random(size)
    amount = 300_000 if size == 1 else 2_000_000
    data = bytearray(chance.randbytes(amount).replace(b"\n", b""))
    for at in range(0, len(data) - 100, 9_973):
        data[at : at + 20] = b"s3cret-0123456789abc"
    stream = RedactedStream(Redactor([Secret("s3cret-0123456789abc"), Secret("x" * 16384)]))
    told = b"".join([*(stream.write(bytes(data[at : at + size])) for at in range(0, len(data), size)), stream.close()])
    assert b"s3cret-0123456789abc" not in told
    assert told.count(HIDDEN.encode()) >= len(data) // 9_973 - 1


@pytest.mark.parametrize("piece", [16_384, 50])
def test_no_byte_is_looked_at_more_than_a_few_times(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command knows its secrets, may print what is nearly one of them, and may do so in small pieces."""
    redactor = Redactor([Secret("a" * 16_383 + "b")])
    stream, looked = RedactedStream(redactor), 0
    spans = Redactor.spans

    def counted(self: Redactor, data: bytes) -> list[tuple[int, int]]:
        nonlocal looked
        looked += len(data)
        return spans(self, data)

    monkeypatch.setattr(Redactor, "spans", counted)
    for _ in range(2_000_000 // piece):
        stream.write(b"a" * piece)
    stream.close()
    assert looked < 3 * 2_000_000
