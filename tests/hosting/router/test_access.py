"""Who may open a preview that is not public: by a token, a link, or a secret for CI, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from router_world import App, World, settled, shop, world
from support import run

from provisioner.core.clock import now_ms
from provisioner.core.ids import AppId, TokenId
from provisioner.core.model import Scope
from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.sessions import Sessions
from provisioner.hosting.router.waking import AppFailed
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import secret_key
from provisioner.system.home import Home

CLOSED, OTHER, LIVE = "closed.shop.localhost", "other.shop.localhost", "shop.localhost"
APP, ANOTHER = "app", "another"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture(scope="module")
def around(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, App]]:
    with shop(shared_home.parent) as (found, app):
        for name in (APP, ANOTHER):
            _register(found, tmp_path_factory.mktemp(name) / name)
        yield found, app


def _register(found: World, repository: Path) -> None:
    """An app with this name, with a database."""
    run(repository.parent, "git", "init", "-q", "-b", "main", repository, check=True)
    mine = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    run(repository, "git", *mine, "commit", "-q", "--allow-empty", "-m", "a", check=True)
    run(repository, "provisioner", "init", check=True, add={"PROVISIONER_HOME": found.home.path})


@pytest.fixture
def routed(around: tuple[World, App]) -> World:
    """Three hosts that are not public: two of an app's development timelines, and its production."""
    found, app = around
    own = app_id(found)
    found.access.forget_app(own)
    for host in (CLOSED, OTHER):
        found.close(host, app.port, own)
    found.close(LIVE, app.port, own, production=True)
    return found


def app_id(routed: World, name: str = APP) -> AppId:
    with Registry.open(routed.home) as registry:
        return next(each.id for each in registry.apps() if each.slug == name)


def token(routed: World, scope: Scope, app: str = APP, **more: Any) -> str:
    with Registry.open(routed.home) as registry:
        owner = app_id(routed, app) if scope is Scope.APP else None
        if scope is Scope.DATABASE:
            more["database_id"] = registry.databases(app_id(routed, app))[0].id
        return tokens.create(registry, scope, now_ms(), app_id=owner, **more)[1]


def sign_in(routed: World, host: str, text: str, following: str = "/") -> tuple[int, str, str]:
    """The status, the place that the browser is sent to, and the cookie's header for its next requests."""
    form = urlencode({"token": text, "next": following}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", **BROWSER}
    with routed.request(host, "/.provisioner/sign-in", "POST", form, headers) as answer:
        answer.read()
        return answer.status, answer.getheader("location") or "", cookie_of(answer.getheader("set-cookie") or "")


def cookie_of(header: str) -> str:
    return header.partition(";")[0]


def status(routed: World, host: str, cookie: str = "", **headers: str) -> int:
    return routed.get(host, headers={**({"Cookie": cookie} if cookie else {}), **headers})[0]


def test_a_page_asks_for_a_token_and_a_program_is_told_what_to_send(routed: World) -> None:
    with routed.request(CLOSED, "/a?b=<c>", headers=BROWSER) as answer:
        page = answer.read().decode()
        assert answer.status == 401
        assert "shop, closed is not public" in page
        assert 'name="next" value="/a?b=&lt;c&gt;"' in page
        assert "frame-ancestors 'none'" in (answer.getheader("content-security-policy") or "")
    assert routed.get(CLOSED) == (
        401,
        b"shop, closed is not public. Sign in in a browser, or send the header X-Provisioner-Bypass\n",
    )


def test_a_token_of_the_app_signs_in_to_one_host(routed: World) -> None:
    text = token(routed, Scope.APP)
    answered, place, cookie = sign_in(routed, CLOSED, text, "/a?b=1")
    assert (answered, place) == (303, "/a?b=1")
    assert status(routed, CLOSED, cookie) == 200
    assert status(routed, OTHER, cookie) == 401
    assert "cookie" not in routed.seen(CLOSED, headers={"Cookie": cookie})["headers"]


def test_the_cookie_is_the_hosts_alone_and_no_programs_on_its_pages(routed: World) -> None:
    form = urlencode({"token": token(routed, Scope.ADMIN)}).encode()
    with routed.request(CLOSED, "/.provisioner/sign-in", "POST", form) as answer:
        found = SimpleCookie(answer.getheader("set-cookie"))["provisioner_preview"]
    assert (found["httponly"], found["samesite"], found["path"], found["domain"]) == (True, "Lax", "/", "")
    assert 0 < int(found["max-age"]) <= 7 * 86400


@pytest.mark.parametrize(
    ("scope", "more", "host"),
    [
        (Scope.APP, {"app": ANOTHER}, CLOSED),
        (Scope.APP, {"read_only": True}, CLOSED),
        (Scope.APP, {}, LIVE),
        (Scope.ADMIN, {"read_only": True}, CLOSED),
        (Scope.ADMIN, {"expires_at": 1}, CLOSED),
        (Scope.DATABASE, {}, CLOSED),
    ],
)
def test_another_token_opens_nothing(routed: World, scope: Scope, more: dict[str, Any], host: str) -> None:
    answered, _, cookie = sign_in(routed, host, token(routed, scope, **more))
    assert answered in (401, 429)
    assert cookie == ""


def test_an_admin_token_opens_production(routed: World) -> None:
    assert status(routed, LIVE, sign_in(routed, LIVE, token(routed, Scope.ADMIN))[2]) == 200


@pytest.mark.parametrize(
    "following", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\r\nX: 1", ""]
)
def test_signing_in_leads_to_no_other_site(routed: World, following: str) -> None:
    assert sign_in(routed, CLOSED, token(routed, Scope.APP), following)[1] == "/"


def test_a_session_ends_with_its_token(routed: World) -> None:
    text = token(routed, Scope.APP)
    cookie = sign_in(routed, CLOSED, text)[2]
    assert status(routed, CLOSED, cookie) == 200
    revoke = ("provisioner", "token", "revoke", tokens.split(text)[0])
    run(Path("/"), *revoke, check=True, add={"PROVISIONER_HOME": routed.home.path})
    assert status(routed, CLOSED, cookie) == 401
    assert sign_in(routed, CLOSED, text)[0] in (401, 429)


def test_a_session_ends_when_its_token_expires(routed: World) -> None:
    text = token(routed, Scope.APP, expires_at=now_ms() + 3_600_000)
    sign_in(routed, CLOSED, text)
    (session,) = routed.access.sessions.listing(now_ms())
    assert session.ends_at <= now_ms() + 3_600_000
    assert session.principal == f"token {tokens.split(text)[0]}"


def test_signing_out_ends_the_session(routed: World) -> None:
    cookie = sign_in(routed, CLOSED, token(routed, Scope.APP))[2]
    with routed.request(CLOSED, "/.provisioner/sign-out", "POST", b"", {"Cookie": cookie}) as answer:
        assert (answer.status, answer.getheader("location")) == (303, "/")
        assert "Max-Age=0" in (answer.getheader("set-cookie") or "")
    assert status(routed, CLOSED, cookie) == 401
    assert routed.access.sessions.listing(now_ms()) == []


def test_a_new_key_of_the_home_ends_every_session_link_and_secret(routed: World) -> None:
    cookie = sign_in(routed, CLOSED, token(routed, Scope.ADMIN))[2]
    _, path = routed.access.share(CLOSED, app_id(routed), "me", now_ms())
    _, secret = routed.access.create_bypass(app_id(routed), "me", now_ms())
    secret_key.rotate(routed.home)
    routed.access.sweep(now_ms())
    assert status(routed, CLOSED, cookie) == 401
    assert status(routed, CLOSED, **{"X-Provisioner-Bypass": secret}) == 401
    assert routed.get(CLOSED, path, headers=BROWSER)[0] in (401, 429)
    left = [
        each
        for kind in ("links", "bypass", "sessions")
        for each in (Path(routed.home.path) / "router" / kind).iterdir()
    ]
    assert left == []


# links


def follow(routed: World, host: str, path: str) -> tuple[int, str]:
    with routed.request(host, path, headers=BROWSER) as answer:
        answer.read()
        return answer.status, cookie_of(answer.getheader("set-cookie") or "")


def test_a_link_signs_in_to_its_host_until_it_is_revoked_and_its_sessions_end_with_it(routed: World) -> None:
    link, path = routed.access.share(CLOSED, app_id(routed), "me", now_ms(), label="for the customer")
    answered, cookie = follow(routed, CLOSED, path)
    assert answered == 303
    assert status(routed, CLOSED, cookie) == 200
    assert follow(routed, OTHER, path) == (401, "")
    assert [each.label for each in routed.access.links(now_ms())] == ["for the customer"]
    assert routed.access.revoke_link(link.id)
    assert status(routed, CLOSED, cookie) == 401
    assert follow(routed, CLOSED, path)[0] in (401, 429)


def test_a_link_expires_with_the_sessions_that_it_opened(routed: World) -> None:
    now = now_ms()
    link, path = routed.access.share(CLOSED, app_id(routed), "me", now, lasts_ms=3_600_000)
    _, cookie = follow(routed, CLOSED, path)
    (session,) = routed.access.sessions.listing(now)
    assert session.ends_at // 1000 == (link.ends_at or 0) // 1000
    assert routed.access.links(now + 3_600_000) == []
    site = routed.apps.sites[CLOSED]
    assert routed.access.use_link(CLOSED, site, path.partition("=")[2], now + 3_600_000) is None
    assert cookie


def test_a_link_for_one_use_is_used_once_by_however_many_at_once(routed: World) -> None:
    _, path = routed.access.share(CLOSED, app_id(routed), "me", now_ms(), once=True)
    found = [follow(routed, CLOSED, path)[0] for _ in range(3)]
    assert found[0] == 303
    assert set(found[1:]) <= {401, 429}


def test_a_link_ends_with_the_token_that_made_it(routed: World) -> None:
    link, path = routed.access.share(CLOSED, app_id(routed), "me", now_ms(), token_id=TokenId("abc"))
    _, cookie = follow(routed, CLOSED, path)
    routed.access.revoke_token(TokenId("abc"))
    assert status(routed, CLOSED, cookie) == 401
    assert routed.access.links(now_ms()) == []
    assert link.token_id == "abc"


def test_the_home_keeps_no_secret_of_a_link_or_of_ci(routed: World) -> None:
    _, path = routed.access.share(CLOSED, app_id(routed), "me", now_ms())
    _, secret = routed.access.create_bypass(app_id(routed), "me", now_ms())
    for file in (Path(routed.home.path) / "router").rglob("*"):
        if file.is_file():
            content = file.name.encode() + file.read_bytes()
            assert path.partition("=")[2].encode() not in content
            assert secret.encode() not in content
            assert file.stat().st_mode & 0o077 == 0, file


# CI


def test_a_secret_for_ci_opens_the_previews_of_its_app_until_it_is_revoked(
    routed: World, around: tuple[World, App]
) -> None:
    routed.close("foreign.localhost", around[1].port, "another")
    made, secret = routed.access.create_bypass(app_id(routed), "me", now_ms(), label="GitHub")
    header = {"X-Provisioner-Bypass": secret}
    for host in (CLOSED, OTHER):
        routed.sleeping(host, around[1].port, app_id(routed), public=False)
        found = routed.seen(host, method="POST", body=b"x", headers=header)
        assert found["body"] == "x"
        assert "x-provisioner-bypass" not in found["headers"]
    assert status(routed, "foreign.localhost", **header) == 401
    assert status(routed, CLOSED, **{"X-Provisioner-Bypass": secret[:-1] + "g"}) == 401
    assert [each.id for each in routed.access.bypasses(now_ms())] == [made.id]
    assert routed.access.revoke_bypass(made.id)
    assert status(routed, CLOSED, **header) == 401


def test_a_secret_of_ci_reaches_no_app_of_a_public_host_either(routed: World, around: tuple[World, App]) -> None:
    routed.open("public.localhost", around[1].port)
    found = routed.seen(
        "public.localhost", headers={"X-Provisioner-Bypass": "a" * 64, "Cookie": "provisioner_preview=x; a=1"}
    )
    assert "x-provisioner-bypass" not in found["headers"]
    assert found["headers"]["cookie"] == "a=1"


# what becomes of hosts


def test_an_app_that_gets_the_host_of_another_is_not_opened_by_its_sessions(
    routed: World, around: tuple[World, App]
) -> None:
    cookie = sign_in(routed, CLOSED, token(routed, Scope.ADMIN))[2]
    kept = sign_in(routed, OTHER, token(routed, Scope.ADMIN))[2]
    routed.close(CLOSED, around[1].port, "another")
    routed.access.keep_only(routed.apps.find)
    assert status(routed, CLOSED, cookie) == 401
    assert status(routed, OTHER, kept) == 200


def test_an_app_is_removed_with_everything_that_opens_it(routed: World) -> None:
    cookie = sign_in(routed, CLOSED, token(routed, Scope.ADMIN))[2]
    routed.access.share(CLOSED, app_id(routed), "me", now_ms())
    routed.access.create_bypass(app_id(routed), "me", now_ms())
    routed.access.forget_app(app_id(routed))
    assert status(routed, CLOSED, cookie) == 401
    assert routed.access.links(now_ms()) == []
    assert routed.access.bypasses(now_ms()) == []


def test_a_host_has_a_thousand_sessions_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.hosting.router.sessions.MOST", 5)
    home = Home(str(tmp_path / "home"))
    home.create()
    sessions = Sessions(home)
    for place in range(8):
        sessions.begin(CLOSED, AppId(APP), f"{place}", now_ms(), ends_at=now_ms() + 60_000 + 1000 * place)
    assert sorted(each.principal for each in sessions.listing(now_ms())) == ["3", "4", "5", "6", "7"]
    sessions.sweep(now_ms() + 3_600_000)
    assert list((tmp_path / "home/router/sessions").iterdir()) == []


def test_tokens_are_guessed_slowly(routed: World) -> None:
    found = [sign_in(routed, CLOSED, f"ptk_{place}_x")[0] for place in range(14)]
    assert found[-1] == 429
    assert sign_in(routed, CLOSED, token(routed, Scope.APP))[0] == 303


@pytest.mark.parametrize(
    ("options", "local"),
    [
        (RouterOptions(), True),
        (RouterOptions(host="::1", domain="dev.localhost"), True),
        (RouterOptions(host="0.0.0.0"), False),
        (RouterOptions(host="192.0.2.1"), False),
        (RouterOptions(domain="example.com"), False),
        (RouterOptions(trusted_proxies=("127.0.0.0/8",)), False),
    ],
)
def test_previews_need_no_sign_in_on_this_machine_alone(options: RouterOptions, local: bool) -> None:
    assert options.local is local


def test_beyond_this_machine_the_log_of_a_public_app_is_for_no_stranger(tmp_path: Path, routed: World) -> None:
    with world(tmp_path / "home", RouterOptions(port=routed.port + 1, domain="previews.example")) as found:
        for host, public in (("public.previews.example", True), ("private.previews.example", False)):
            found.apps.site(host, public=public)
            found.apps.answers[host] = lambda: settled(AppFailed("it ended", "PASSWORD=x"))
        assert b"PASSWORD" not in found.get("public.previews.example")[1]
        _, secret = found.access.create_bypass("app", "me", now_ms())
        status, text = found.get("private.previews.example", headers={"X-Provisioner-Bypass": secret})
        assert status == 502
        assert b"PASSWORD" in text
