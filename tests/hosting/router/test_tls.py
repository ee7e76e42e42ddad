"""HTTPS: certificates of the home's own authority, of files, and only for hosts that there are."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import certificate
from router_world import App, World, start_app, until, world
from support import free_port

from provisioner.core.clock import now_ms
from provisioner.core.errors import StorageFailed
from provisioner.hosting.router.certificates import refused, remove_unknown
from provisioner.hosting.router.names import LOG
from provisioner.hosting.router.options import CertificateFiles, LocalAuthority, RouterOptions
from provisioner.hosting.router.process import RouterProcess
from provisioner.system.home import Home

LOGIN, CLOSED = "login.shop.localhost", "closed.shop.localhost"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    found = start_app()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory, app: App) -> Iterator[World]:
    options = RouterOptions(port=free_port(), tls=LocalAuthority())
    with world(tmp_path_factory.mktemp("tls") / "home {x}", options) as found:
        found.open(LOGIN, app.port)
        found.close(CLOSED, app.port)
        yield found


def root(routed: World) -> Path:
    return Path(routed.home.path) / "router/data/pki/authorities/local/root.crt"


def curl(routed: World, host: str, path: str, *more: str, scheme: str = "https") -> str:
    command = ["curl", "-sS", "-i", "--max-time", "60", "--cacert", str(root(routed)), *more]
    command += ["--resolve", f"{host}:{routed.port}:127.0.0.1", f"{scheme}://{host}:{routed.port}{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_root_is_where_the_documentation_says(routed: World) -> None:
    assert routed.options.tls == LocalAuthority()
    assert until(lambda: root(routed).exists(), "there is no root")
    assert routed.router is not None
    assert routed.router.root_certificate == str(root(routed))


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_known_host_has_a_certificate_of_the_local_authority(routed: World, version: str) -> None:
    found = curl(routed, LOGIN, "/upload", version, "-d", "abc")
    assert found.startswith("HTTP/2 200" if version == "--http2" else "HTTP/1.1 200")
    assert found.endswith(("\n3", "\r\n3"))


def test_the_app_is_told_that_the_client_speaks_tls(routed: World) -> None:
    assert '["x-forwarded-proto","https"]' in curl(routed, LOGIN, "/")


def test_a_host_that_sleeps_has_a_certificate_too(routed: World, app: App) -> None:
    routed.sleeping("sleeping.shop.localhost", app.port)
    assert curl(routed, "sleeping.shop.localhost", "/upload").startswith("HTTP/2 200")


def test_no_certificate_is_made_for_an_unknown_host(routed: World) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for host in ("nobody.shop.localhost", "*.shop.localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", routed.port), timeout=60) as connection,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            context.wrap_socket(connection, server_hostname=host)
    made = {path.name for path in (Path(routed.home.path) / "router/data/certificates").rglob("*.crt")}
    assert not {name for name in made if "nobody" in name or "wildcard" in name}


def test_a_certificate_of_one_host_serves_no_other(routed: World) -> None:
    """A browser shares a connection among hosts only if the certificate names them; a program may do as it likes."""
    context = ssl.create_default_context(cafile=str(root(routed)))
    with (
        socket.create_connection(("127.0.0.1", routed.port), timeout=60) as connection,
        context.wrap_socket(connection, server_hostname=LOGIN) as secure,
    ):
        secure.sendall(f"GET / HTTP/1.1\r\nHost: {CLOSED}\r\nConnection: close\r\n\r\n".encode())
        assert secure.recv(1000).startswith((b"HTTP/1.1 401", b"HTTP/1.1 421"))


def test_without_tls_a_browser_is_sent_to_the_same_address_with_it(routed: World) -> None:
    found = curl(routed, LOGIN, "/a?b", scheme="http")
    assert f"https://{LOGIN}:{routed.port}/a?b" in found
    assert found.split()[1].startswith("3")


def test_the_cookie_of_a_session_is_one_that_no_other_host_can_set(routed: World) -> None:
    _, path = routed.access.share(CLOSED, "app", "me", now_ms())
    found = curl(routed, CLOSED, path)
    (header,) = [line for line in found.splitlines() if line.lower().startswith("set-cookie: ")]
    cookie = header.partition(" ")[2].partition(";")[0]
    assert cookie.startswith("__Host-provisioner_preview=")
    assert "; Secure" in header
    assert "Domain" not in header
    assert curl(routed, CLOSED, "/upload", "-H", f"Cookie: {cookie}").startswith("HTTP/2 200")
    tossed = cookie.removeprefix("__Host-")
    assert curl(routed, CLOSED, "/upload", "-H", f"Cookie: {tossed}").startswith("HTTP/2 401")
    assert '"cookie"' not in curl(routed, CLOSED, "/", "-H", f"Cookie: {cookie}; {tossed}")


def test_an_address_says_https(routed: World) -> None:
    assert urllib.parse.urlsplit(routed.options.url(LOGIN)).scheme == "https"
    assert RouterOptions(port=443, tls=LocalAuthority()).url(LOGIN) == f"https://{LOGIN}"
    assert RouterOptions(port=80).url(LOGIN) == f"http://{LOGIN}"


def test_a_certificate_of_files(tmp_path: Path, app: App) -> None:
    made, key = certificate(tmp_path)
    options = RouterOptions(port=free_port(), tls=CertificateFiles(str(made), str(key)))
    with world(tmp_path / "home", options) as found:
        found.open("localhost", app.port)
        context = ssl.create_default_context(cafile=str(made))
        with (
            socket.create_connection(("127.0.0.1", found.port), timeout=60) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert secure.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_certificate_that_was_renewed_is_served_without_a_restart(tmp_path: Path, app: App) -> None:
    made, key = certificate(tmp_path)
    options = RouterOptions(port=free_port(), tls=CertificateFiles(str(made), str(key)))
    with world(tmp_path / "home", options) as found:
        before, pid = served(found.port), found.pid
        assert before == ssl.PEM_cert_to_DER_cert(made.read_text())
        certificate(tmp_path)
        process = RouterProcess(found.home, options)
        process.renew()  # as the router's thread does every minute
        assert served(found.port) == ssl.PEM_cert_to_DER_cert(made.read_text()) != before
        made.write_text("damaged")
        with pytest.raises(StorageFailed, match="refused its configuration"):
            process.renew()
        assert served(found.port) != before
        certificate(tmp_path)
        found.stop(keep_router=True)
        found.start()
        assert served(found.port) == ssl.PEM_cert_to_DER_cert(made.read_text())
        assert found.pid == pid


def served(port: int) -> bytes:
    """The certificate that the router shows."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=60))


def test_the_port_without_tls_redirects_to_the_address_with_it(tmp_path: Path, app: App) -> None:
    made, key = certificate(tmp_path)
    options = RouterOptions(port=free_port(), http_port=free_port(), tls=CertificateFiles(str(made), str(key)))
    with world(tmp_path / "home", options) as found:
        found.open("localhost", app.port)
        with found.request("localhost", "/a?b", port=options.http_port) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, f"https://localhost:{options.port}/a?b")
        hostile = b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n"
        assert found.raw(hostile, options.http_port).startswith(b"HTTP/1.1 400")


def test_certificates_of_hosts_that_are_gone_are_removed(routed: World, app: App) -> None:
    gone = "gone.shop.localhost"
    routed.open(gone, app.port)
    assert curl(routed, gone, "/").startswith("HTTP/2 200")
    kept = Path(routed.home.path) / "router/data/certificates/local"
    until(lambda: (kept / gone / f"{gone}.crt").exists(), "it has no certificate")
    del routed.apps.sites[gone]
    remove_unknown(routed.home, lambda host: routed.apps.find(host) is not None)
    assert not (kept / gone).exists()


def test_a_certificate_that_goes_during_a_look_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The router removes and renews certificates while `doctor` looks."""
    kept = home / "router/data/certificates/acme"
    for host in ("a.shop.test", "b.shop.test"):
        (kept / host).mkdir(parents=True)
        (kept / host / f"{host}.crt").write_text("")
    said = {"msg": "could not get certificate from issuer", "identifier": "a.shop.test", "ts": 1.0, "error": "why"}
    (home / "router" / LOG).write_text(json.dumps(said))
    issued = os.path.getmtime

    def removed(path: str) -> float:
        os.unlink(path)
        return issued(path)

    assert refused(Home(str(home))) == {}
    monkeypatch.setattr(os.path, "getmtime", removed)
    assert refused(Home(str(home))) == {"a.shop.test": "why"}
