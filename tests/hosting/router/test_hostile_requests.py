"""Requests that are made to reach what is not theirs: by their Host, their path, their headers, or their cookie."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_world import World, shop

LOGIN, CLOSED = "login.shop.localhost", "closed.shop.localhost"
SECRET = "a" * 64


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with shop(tmp_path_factory.mktemp("shop")) as (found, _):
        yield found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", ".", "..", "../closed/" + CLOSED, "..%2fclosed", "*", "*.shop.localhost", "?ogin.shop.localhost"),
        *("[l]ogin.shop.localhost", "{login}.shop.localhost", "login.shop.localhost/..", "\\login.shop.localhost"),
        *("login.shop.localhost,evil", "login.shop.localhost@evil", "login..shop.localhost", ".login.shop.localhost"),
        *("login.shop.localhost\x00", "login.shop.localhost evil", "{http.request.header.x}", "{env.HOME}", "$(id)"),
        *("login.shop.localhost:99999999", "login.shop.localhost:x", "[::1]", "127.0.0.1", "a" * 300, "é.localhost"),
        *("open", "sessions", "data", "caddy.json", "gateway.sock", "closed.shop.localhost/x/../../open"),
    ],
)
def test_a_false_host_reaches_no_app(routed: World, host: str) -> None:
    answer = routed.raw(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\nConnection: close\r\n\r\n")
    assert status(answer) in (0, 400, 404), answer[:300]
    assert b'"name":"app"' not in answer


@pytest.mark.parametrize("host", ["LOGIN.Shop.Localhost", "login.shop.localhost.", "login.shop.localhost:80"])
def test_another_form_of_a_host_is_the_same_host(routed: World, host: str) -> None:
    routed.sleeping(LOGIN, routed.routes.all()[LOGIN])
    assert routed.seen(host)["headers"]["host"] == host


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\nHost: closed.shop.localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: closed.shop.localhost\r\nHost: login.shop.localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\n Folded: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : login.shop.localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\nX: a\x00b\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\nTransfer-Encoding: x\r\nConnection: close\r\n\r\n",
        b"GET /a\rb HTTP/1.1\r\nHost: login.shop.localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: login.shop.localhost\r\n\r\n",
    ],
)
def test_an_ambiguous_request_reaches_no_app(routed: World, request_bytes: bytes) -> None:
    answer = routed.raw(request_bytes)
    assert status(answer) in (0, 400, 404, 501, 505), answer[:300]
    assert b'"name":"app"' not in answer


def test_the_host_of_an_absolute_address_counts_and_no_other(routed: World) -> None:
    """RFC 9112, 3.2.2."""
    answer = routed.raw(f"GET http://{CLOSED}/ HTTP/1.1\r\nHost: {LOGIN}\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) == 401
    answer = routed.raw(f"GET http://{LOGIN}/x HTTP/1.1\r\nHost: {CLOSED}\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) == 200
    assert f'["host","{LOGIN}"]'.encode() in answer


def test_a_request_that_hides_another_one_is_one_request(routed: World) -> None:
    """Both lengths: the second request would be the next client's on the app's connection."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: closed.shop.localhost\r\nConnection: close\r\n\r\n"
    for headers in (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    ):
        answer = routed.raw(
            b"POST /upload HTTP/1.1\r\nHost: login.shop.localhost\r\n"
            + headers % (5 + len(hidden))
            + b"\r\n0\r\n\r\n"
            + hidden
        )
        assert b"/hidden" not in answer
        assert answer.count(b"HTTP/1.1 200") <= 1


def test_headers_of_64_kib_are_refused_and_the_router_goes_on(routed: World) -> None:
    for header in (b"X: " + b"x" * 80_000, b"\r\n".join(b"X%d: %s" % (place, b"y" * 90) for place in range(900))):
        answer = routed.raw(
            b"GET / HTTP/1.1\r\nHost: login.shop.localhost\r\n" + header + b"\r\nConnection: close\r\n\r\n"
        )
        assert status(answer) in (0, 431)
    assert status(routed.raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: login.shop.localhost\r\n\r\n")) in (
        0,
        431,
    )
    assert routed.get(LOGIN, "/upload")[0] == 200


def test_line_breaks_in_a_value_make_no_header(routed: World) -> None:
    found = routed.seen(LOGIN, "/a%0d%0aX-Injected:%201?b=%0d%0aX-Injected:%202")
    assert "x-injected" not in found["headers"]
    answer = routed.raw(
        b"GET / HTTP/1.1\r\nHost: closed.shop.localhost\r\nX-Provisioner-Bypass: a\r\n b\r\nConnection: close\r\n\r\n"
    )
    assert status(answer) in (0, 400, 401)


def session_file(routed: World, host: str, value: str) -> Path:
    path = Path(routed.home.path) / "router/sessions" / host / value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    "cookie",
    [
        *("provisioner_preview=", "provisioner_preview=..", "provisioner_preview=*", "provisioner_preview=*.*"),
        *(f"provisioner_preview=../{LOGIN}/{SECRET}.9999999999", f"provisioner_preview={'?' * 64}.9999999999"),
        *(f"provisioner_preview={SECRET}", f"provisioner_preview={SECRET}.", f"provisioner_preview={SECRET}.x"),
        *(f"provisioner_preview={SECRET.upper()}.9999999999", f"provisioner_preview={SECRET}.9999999999/"),
        *(f"provisioner_preview={SECRET}.9999999999/../x", f"xprovisioner_preview={SECRET}.9999999999"),
        *(f"provisioner_preview={SECRET}.99999999999999999999", f"a=provisioner_preview={SECRET}.9999999999"),
        *("provisioner_preview={http.request.host}", f"provisioner_preview=[a]{SECRET[1:]}.9999999999"),
        f"__Host-provisioner_preview={SECRET}.9999999999",  # without TLS, browsers do not send this name
    ],
)
def test_a_crafted_cookie_opens_nothing(routed: World, cookie: str) -> None:
    session_file(routed, LOGIN, f"{SECRET}.9999999999")  # of another host
    if "a=prov" in cookie or "xprov" in cookie or "__Host" in cookie:
        session_file(routed, CLOSED, f"{SECRET}.9999999999")
    assert routed.get(CLOSED, headers={"Cookie": cookie})[0] == 401
    (Path(routed.home.path) / "router/sessions" / CLOSED / f"{SECRET}.9999999999").unlink(missing_ok=True)


def test_a_session_is_for_its_host_in_time_and_until_its_file_is_deleted(routed: World) -> None:
    value = f"{SECRET}.{int(time.time()) + 2}"
    file = session_file(routed, CLOSED, value)
    cookie = {"Cookie": f"a=1; provisioner_preview={value}; b=2"}
    assert routed.seen(CLOSED, headers=cookie)["headers"]["cookie"] == "a=1; b=2"
    routed.close("other.shop.localhost", routed.routes.all()[CLOSED])
    assert routed.get("other.shop.localhost", headers=cookie)[0] == 401
    while time.time() < int(value.partition(".")[2]) + 0.1:
        time.sleep(0.05)  # until it has ended
    assert file.exists()
    assert routed.get(CLOSED, headers=cookie)[0] == 401
    value = f"{SECRET}.9999999999"
    file = session_file(routed, CLOSED, value)
    cookie = {"Cookie": f"provisioner_preview={value}"}
    assert routed.get(CLOSED, headers=cookie)[0] == 200
    os.unlink(file)
    assert routed.get(CLOSED, headers=cookie)[0] == 401


def test_an_app_that_asks_the_router_for_another_host_needs_a_session_of_it(routed: World) -> None:
    """As a hostile preview does, which runs on the same machine."""
    for headers in (
        {"X-Forwarded-Host": LOGIN},
        {"X-Provisioner-Host": LOGIN},
        {"X-Provisioner-Upstream": "127.0.0.1:1"},
        {"X-Original-URL": "/x"},
        {"X-Provisioner-Failed": "127.0.0.1:1"},
        {"Authorization": "Bearer x"},
    ):
        assert routed.get(CLOSED, headers=headers)[0] == 401


@pytest.mark.parametrize(
    "path", ["/ask", "/known?domain=login.shop.localhost", "/.provisioner/../ask", "/.provisioner/ask", "//ask"]
)
def test_what_the_router_asks_the_gateway_cannot_be_asked_from_outside(routed: World, path: str) -> None:
    assert routed.get("nobody.localhost", path)[0] == 404
    assert routed.get(CLOSED, path)[0] in (401, 404)
