"""What a token opens: every kind of token on every kind of database, and all that makes one worthless."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from access_world import ABSENT, EXPECTED, HOUR, NOW, World, world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.connect.server.rate_limit import ADDRESSES, RateLimiter
from provisioner.connect.server.tokens import Access, Opened
from provisioner.core.errors import StorageFailed, WrongHome
from provisioner.core.ids import DatabaseId
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import identity, secret_key
from provisioner.system.home import Home


@pytest.fixture
def shop(home: Path) -> World:
    return world(home)


@pytest.fixture
def access(shop: World) -> Iterator[Access]:
    opened = Access(shop.home)
    yield opened
    opened.close()


def exchanged(access: Access, bearer: str, database_id: str, now: int = NOW) -> Opened:
    opened = access.exchange(bearer, DatabaseId(database_id), now)
    assert opened is not None
    return opened


def signed(access: Access, bearer: str, database_id: str, now: int = NOW) -> str:
    return access.sign(exchanged(access, bearer, database_id, now), now)[0]


# the matrix


@pytest.mark.parametrize("name", EXPECTED)
def test_each_token_opens_its_databases_and_no_other(shop: World, access: Access, name: str) -> None:
    bearer = shop.token(name)
    found = {
        kind for kind, database_id in shop.databases.items() if access.exchange(bearer, DatabaseId(database_id), NOW)
    }
    assert found == EXPECTED[name]
    for kind in found:
        database_id = shop.databases[kind]
        opened = exchanged(access, bearer, database_id)
        assert (opened.database_id, opened.read_only) == (database_id, False)
        assert bearer not in repr(opened)
        data, expiry = access.sign(opened, NOW)
        assert expiry >= NOW + HOUR
        assert access.admit(data, NOW) == opened
        assert access.admit(data, expiry - 1) is not None
        assert access.admit(data, expiry) is None
        for other in shop.databases.values():
            if other != database_id:
                assert access.admit(data.replace(database_id, other), NOW) is None
                assert access.exchange(data, DatabaseId(other), NOW) is None


@pytest.mark.parametrize("name", [name for name in EXPECTED if not name.startswith("injected")])
def test_a_read_only_token_stays_one(shop: World, access: Access, name: str) -> None:
    bearer = shop.token(name, read_only=True)
    for kind in EXPECTED[name]:
        opened = exchanged(access, bearer, shop.databases[kind])
        assert opened.read_only
        data = access.sign(opened, NOW)[0]
        assert access.admit(data, NOW) == opened
        assert access.admit(data.replace("_ro_", "_rw_"), NOW) is None


def test_a_token_for_one_purpose_is_none_for_another(shop: World, access: Access) -> None:
    login = shop.databases["login"]
    for name in ("injected:login", "database:login", "admin"):
        bearer = shop.token(name)
        assert access.admit(bearer, NOW) is None
        data = signed(access, bearer, login)
        assert access.exchange(data, DatabaseId(login), NOW) is None
        swapped = data.rpartition("_")[0] + "_" + bearer.rpartition("_")[2]
        assert access.admit(swapped, NOW) is None
        assert access.exchange(f"ptd_{login}_{data.rpartition('_')[2]}", DatabaseId(login), NOW) is None


# texts that are nearly tokens


@pytest.mark.parametrize("name", ["injected:login", "database:login", "app:shop", "admin"])
def test_one_character_decides(shop: World, access: Access, name: str) -> None:
    login = shop.databases["login"]
    bearer = shop.token(name)
    data = signed(access, bearer, login)

    def exchange(text: str) -> Opened | None:
        return access.exchange(text, DatabaseId(login), NOW)

    def admit(text: str) -> Opened | None:
        return access.admit(text, NOW)

    for text, opens in ((bearer, exchange), (data, admit)):
        assert opens(text) is not None
        for index, char in enumerate(text):
            for other in {"0" if char != "0" else "1", char.swapcase(), "_", "\0", "é"} - {char}:
                assert opens(text[:index] + other + text[index + 1 :]) is None, (index, other)
            assert opens(text[:index]) is None
            assert opens(text[:index] + text[index + 1 :]) is None
        for longer in (text + "0", text + "_", "0" + text, text + "\n", " " + text, text + text):
            assert opens(longer) is None


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(), st.builds("{}{}".format, st.sampled_from(("ptk_", "ptd_", "pts_", "ptk__", "pts_a_rw_")), st.text())
    ),
    other=st.one_of(st.text(), st.just(ABSENT)),
)
def test_any_text_is_refused_without_an_error(shop: World, access: Access, text: str, other: str) -> None:
    assert access.exchange(text, DatabaseId(shop.databases["login"]), NOW) is None
    assert access.exchange(text, DatabaseId(other), NOW) is None
    assert access.admit(text, NOW) is None
    assert access.exchange(f"ptd_{other}_{text}", DatabaseId(other), NOW) is None


def test_a_valid_token_with_any_database_that_is_not_one_is_refused(shop: World, access: Access) -> None:
    admin = shop.token("admin")
    login = shop.databases["login"]
    for named in ("", "login", login.upper(), login + " ", login[:-1], "\ud800" * 36, "%", "x" * 10_000, "\0" * 36):
        assert access.exchange(admin, DatabaseId(named), NOW) is None


# what ends a token


def test_a_token_ends_at_its_time_and_so_does_what_was_signed_for_it(shop: World, access: Access) -> None:
    login = shop.databases["login"]
    bearer = shop.token("database:login", expires_at=NOW + 60_000)
    opened = exchanged(access, bearer, login)
    assert opened.expires_at == NOW + 60_000
    data, expiry = access.sign(opened, NOW)
    assert expiry >= NOW + HOUR  # a client that is told of less asks again and again
    admitted = access.admit(data, NOW + 59_999)
    assert admitted is not None
    assert admitted.expires_at == NOW + 60_000
    assert access.admit(data, NOW + 60_000) is None
    assert access.exchange(bearer, DatabaseId(login), NOW + 60_000) is None


@pytest.mark.parametrize("name", ["database:login", "app:shop", "admin"])
def test_a_revoked_token_opens_nothing_from_then_on(shop: World, access: Access, name: str) -> None:
    login = shop.databases["login"]
    bearer, spared = shop.token(name), shop.token(name)
    data, other = signed(access, bearer, login), signed(access, spared, login)
    access.changed()
    assert not access.changed()
    with Registry.open(shop.home) as registry:
        found = tokens.find(registry, tokens.split(bearer)[0])
        assert found is not None
        tokens.revoke(registry, found[0], NOW)
        tokens.revoke(registry, found[0], NOW + 1)
        assert [token.revoked_at for token in tokens.listing(registry) if token.id == found[0].id] == [NOW]
    assert access.changed()
    assert not access.changed()
    assert access.exchange(bearer, DatabaseId(login), NOW) is None
    assert access.admit(data, NOW) is None
    assert access.admit(other, NOW) is not None


def test_a_raised_generation_ends_what_was_injected_for_that_database_alone(shop: World, access: Access) -> None:
    login, cart = shop.databases["login"], shop.databases["cart"]
    before = {name: shop.token(f"injected:{name}") for name in ("login", "production")}
    data = signed(access, before["login"], login)
    admin = signed(access, shop.token("admin"), login)
    with Registry.open(shop.home) as registry:
        tokens.raise_generation(registry, DatabaseId(login), NOW)
    assert access.changed()
    assert access.exchange(before["login"], DatabaseId(login), NOW) is None
    assert access.admit(data, NOW) is None
    assert access.admit(admin, NOW) is not None
    assert access.exchange(before["production"], DatabaseId(shop.databases["production"]), NOW) is not None
    now_injected = secret_key.injected(secret_key.secret(shop.home), login, 1)
    assert access.admit(signed(access, now_injected, login), NOW) is not None
    assert access.exchange(secret_key.injected(secret_key.secret(shop.home), cart, 1), DatabaseId(cart), NOW) is None


def test_another_key_ends_all_that_came_of_the_old_one(shop: World, access: Access) -> None:
    login = shop.databases["login"]
    injected, admin = shop.token("injected:login"), shop.token("admin")
    data = [signed(access, bearer, login) for bearer in (injected, admin)]
    access.changed()
    secret_key.rotate(shop.home)
    assert (
        access.exchange(shop.token("injected:login"), DatabaseId(login), NOW) is not None
    )  # at once: an app may just start
    assert access.changed()
    assert access.exchange(injected, DatabaseId(login), NOW) is None
    assert [access.admit(text, NOW) for text in data] == [None, None]
    assert access.admit(signed(access, admin, login), NOW) is not None  # its row in the registry knows no key
    os.unlink(shop.home.key)
    assert access.exchange(shop.token("injected:login"), DatabaseId(login), NOW) is not None


def test_an_app_token_follows_what_becomes_of_a_timeline(shop: World, access: Access) -> None:
    cart = shop.databases["cart"]
    data = signed(access, shop.token("app:shop"), cart)
    with Registry.open(shop.home) as registry:
        timeline = "(select timeline_id from database where id = ?)"
        registry.write(f"update timeline set app_id = ? where id = {timeline}", shop.apps["other"], cart)
    assert access.admit(data, NOW) is None
    assert access.admit(signed(access, shop.token("app:other"), cart), NOW) is not None


# what leaks


def test_tokens_of_another_home_are_worthless(shop: World, access: Access, tmp_path: Path) -> None:
    elsewhere = world(tmp_path / "elsewhere")
    login = shop.databases["login"]
    with closing(Access(elsewhere.home)) as other:
        for name in ("injected:login", "database:login", "admin"):
            bearer = elsewhere.token(name)
            assert access.exchange(bearer, DatabaseId(login), NOW) is None
            assert access.exchange(bearer, DatabaseId(elsewhere.databases["login"]), NOW) is None
            assert access.admit(signed(other, bearer, elsewhere.databases["login"]), NOW) is None


def test_a_copy_of_the_registry_opens_nothing(shop: World, access: Access, tmp_path: Path) -> None:
    login = shop.databases["login"]
    bearers = [shop.token(name) for name in ("injected:login", "database:login", "admin")]
    with Registry.open(shop.home) as registry:
        registry.rows("pragma wal_checkpoint(truncate)")
        hashes = [found[1] for token in tokens.listing(registry) if (found := tokens.find(registry, token.id))]
    held = Path(shop.home.registry).read_bytes()
    for bearer in bearers:
        assert bearer.split("_", 2)[2].encode() not in held
    for token_hash, bearer in zip(hashes, bearers[1:], strict=True):
        assert access.exchange(f"ptk_{tokens.split(bearer)[0]}_{token_hash.hex()}", DatabaseId(login), NOW) is None
    thief = Home(str(tmp_path / "thief"))
    thief.create()
    shutil.copy(shop.home.registry, thief.registry)
    with pytest.raises(WrongHome):
        Access(thief)
    with Registry.open(shop.home) as registry:
        identity.establish(thief, registry.home_id())
    with closing(Access(thief)) as theirs:
        forged = secret_key.injected(secret_key.secret(thief), login, 0)
        assert access.exchange(forged, DatabaseId(login), NOW) is None
        assert access.admit(signed(theirs, forged, login), NOW) is None


# the key


def test_the_key_is_private_and_one_also_where_many_ask_first(home: Path) -> None:
    program = (
        "import sys; from provisioner.system.home import Home; from provisioner.system import secret_key as keys;"
        "print(keys.secret(Home(sys.argv[1])).hex())"
    )
    Home(str(home)).create()
    asking = [
        subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    answers = {process.communicate(timeout=60)[0] for process in asking}
    key = home / "keys" / "connect"
    assert answers == {key.read_bytes().hex() + "\n"}
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [path.name for path in key.parent.iterdir()] == ["connect"]


def test_a_damaged_key_is_an_error_and_not_another_key(shop: World, access: Access) -> None:
    injected = shop.token("injected:login")
    Path(shop.home.key).write_bytes(b"short")
    with pytest.raises(StorageFailed, match="rotate-key"):
        access.exchange(injected, DatabaseId(shop.databases["login"]), NOW)
    with pytest.raises(StorageFailed, match="rotate-key"):
        access.admit("pts_x_y", NOW)
    secret_key.rotate(shop.home)
    assert access.exchange(injected, DatabaseId(shop.databases["login"]), NOW) is None


def test_admitting_takes_microseconds(shop: World, access: Access) -> None:
    for name in ("injected:login", "admin"):
        data = signed(access, shop.token(name), shop.databases["login"])
        taken = []
        for _ in range(50):
            start = time.perf_counter()
            for _ in range(20):
                access.admit(data, NOW)
            taken.append((time.perf_counter() - start) / 20)
        assert min(taken) < 100e-6


# failed attempts


def test_ten_attempts_at_once_and_then_one_a_second() -> None:
    attempts = RateLimiter()
    for start in (12_345.678, 99_999.1):
        assert [attempts.failed("10.0.0.1", start) for _ in range(12)] == [False] * 10 + [True] * 2
        assert not attempts.failed("10.0.0.2", start)
        assert attempts.failed("10.0.0.1", start + 0.4)
        assert [attempts.failed("10.0.0.1", start + 1.1) for _ in range(2)] == [False, True]
        assert [attempts.failed("10.0.0.1", start + 4.2) for _ in range(4)] == [False, False, False, True]


def test_whoever_owns_many_addresses_of_a_network_counts_once() -> None:
    attempts = RateLimiter()
    assert [attempts.failed(f"2001:db8:0:1::{number:x}", 5.0) for number in range(11)] == [False] * 10 + [True]
    assert not attempts.failed("2001:db8:0:2::1", 5.0)
    assert [attempts.failed("::ffff:10.0.0.1", 5.0) for _ in range(10)] == [False] * 10
    assert attempts.failed("10.0.0.1", 5.0)
    assert not attempts.failed("::ffff:10.0.0.2", 5.0)
    assert [attempts.failed(f"no address {number}", 5.0) for number in range(11)] == [False] * 10 + [True]
    assert attempts.failed("", 5.0)


def test_attempts_take_bounded_memory() -> None:
    attempts = RateLimiter()
    for number in range(ADDRESSES + 5_000):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
    assert len(attempts) == ADDRESSES
    latest = f"10.0.{(ADDRESSES + 4_999) >> 8}.{(ADDRESSES + 4_999) & 255}"
    assert [attempts.failed(latest, 1.0) for _ in range(10)] == [False] * 9 + [True]
