"""Cookies of apps stay with their host, those of the router do not reach apps, and the others pass byte for byte."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_world import World, shop

from provisioner.hosting.router.cookies import IN_REQUEST

LOGIN = "login.shop.localhost"


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with shop(tmp_path_factory.mktemp("shop")) as (found, _):
        yield found


def set_cookies(routed: World, *values: str) -> list[str]:
    with routed.request(LOGIN, f"/cookies?{urlencode([('set', value) for value in values])}") as answer:
        answer.read()
        return answer.headers.get_all("set-cookie") or []


@pytest.mark.parametrize(
    "attribute",
    [
        *(
            "; Domain=shop.localhost",
            ";domain=.shop.localhost",
            "; DOMAIN = shop.localhost",
            ";\tdomain\t=\tshop.localhost",
        ),
        *(
            "; domain",
            "; Domain=",
            "; domain=a; Domain=shop.localhost",
            ";domain=shop.localhost ",
            '; Domain="shop.localhost"',
        ),
    ],
)
def test_a_cookie_of_an_app_is_its_hosts_alone(routed: World, attribute: str) -> None:
    (found,) = set_cookies(routed, f"a=1{attribute}; Path=/; HttpOnly")
    assert "domain" not in found.lower()
    assert found.startswith("a=1")
    assert found.endswith("; Path=/; HttpOnly")


def test_other_cookies_of_an_app_pass_as_they_are(routed: World) -> None:
    values = [
        'a="x; y"; Path=/',
        "domain=1; Path=/x",
        "b=domain=x; Secure",
        "c=%20=;=,; Max-Age=0",
        "xprovisioner_preview=1",
    ]
    assert set_cookies(routed, *values) == values


@pytest.mark.parametrize(
    "name", ["provisioner_preview", "__Host-provisioner_preview", "Provisioner_Preview", " provisioner_preview "]
)
def test_an_app_cannot_set_the_cookie_of_the_router(routed: World, name: str) -> None:
    assert [each for each in set_cookies(routed, f"{name}=x; Path=/", "a=1") if each] == ["a=1"]


def test_a_cookie_that_comes_with_a_websocket_is_its_hosts_alone_too(routed: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        routed.open("socket.localhost", listener.getsockname()[1])

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(65536):
                    continue
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: x\r\nSet-Cookie: a=1; Domain=localhost\r\nSet-Cookie: provisioner_preview=x\r\n\r\n"
                )

        answering = threading.Thread(target=answer)
        answering.start()
        found = routed.raw(
            b"GET / HTTP/1.1\r\nHost: socket.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answering.join()
    assert found.startswith(b"HTTP/1.1 101")
    assert b"Set-Cookie: a=1\r\n" in found
    assert b"omain" not in found
    assert b"provisioner_preview" not in found


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=1; b=2", "a=1; b=2"),
        ('a="x;y";  b=%00=;c', 'a="x;y";  b=%00=;c'),
        ("provisioner_preview=x", None),
        ("provisioner_preview=x; a=1", "a=1"),
        ("a=1; provisioner_preview=x", "a=1"),
        ("a=1; provisioner_preview=x; b=2", "a=1; b=2"),
        ("provisioner_preview=x; provisioner_preview=y; __Host-provisioner_preview=z; a=1", "a=1"),
        ("a=1; provisioner_preview=x; provisioner_preview=y; b=2", "a=1; b=2"),
        ("xprovisioner_preview=1; a=provisioner_preview", "xprovisioner_preview=1; a=provisioner_preview"),
    ],
)
def test_a_request_keeps_its_other_cookies(routed: World, sent: str, seen: str | None) -> None:
    assert routed.seen(LOGIN, headers={"Cookie": sent})["headers"].get("cookie") == seen


def test_cookies_in_several_headers_are_all_looked_at(routed: World) -> None:
    answer = routed.raw(
        f"GET / HTTP/1.1\r\nHost: {LOGIN}\r\nCookie: a=1\r\nCookie: provisioner_preview=x; b=2\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert b"provisioner_preview" not in answer
    assert b"a=1" in answer
    assert b"b=2" in answer


NAMES = st.sampled_from(["a", "b", "provisioner_preview", "__Host-provisioner_preview", "xprovisioner_preview"])
PAIRS = st.lists(st.tuples(NAMES, st.text('abc=% "', max_size=4)), max_size=8)


@given(PAIRS, st.sampled_from(["; ", ";", ";  "]))
def test_of_any_header_ours_are_removed_and_no_other(pairs: list[tuple[str, str]], separator: str) -> None:
    header = separator.join(f"{name}={value}" for name, value in pairs)
    left = re.sub(IN_REQUEST, "", header, flags=re.ASCII)
    ours = ("provisioner_preview", "__Host-provisioner_preview")
    kept = [f"{name}={value}".strip() for name, value in pairs if name not in ours]
    assert [each.strip() for each in left.split(";") if each.strip()] == kept
