"""Certificates of a real ACME authority, pebble: for hosts that there are only, renewed, and each host for itself.

The authority is built from the Go module proxy, so these tests run with KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from acme_authority import Authority, authority
from certificates import certificate
from router_world import App, World, start_app, until, world
from support import free_port

from provisioner.hosting.router.certificates import refused, remove_unknown
from provisioner.hosting.router.options import Acme, CertificateFiles, RouterOptions

pytestmark = pytest.mark.skipif("KV_NIGHTLY" not in os.environ, reason="the authority is built first")

LOGIN, REFUSED, UNKNOWN = "login.shop.test", "refused.shop.test", "unknown.shop.test"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    found = start_app()
    yield found
    found.stop()


@contextmanager
def routed(path: Path, app: App, **more: Any) -> Iterator[tuple[World, Authority]]:
    """A router on a port of its own to which the authority connects; `more` is for the authority."""
    tls, http = free_port(), more.pop("http_port", 0)
    with authority(path, tls=tls, http=http or free_port(), **more) as found:
        acme = Acme("ops@shop.test", found.directory, found.roots)
        with world(path / "home", RouterOptions(port=tls, domain="shop.test", tls=acme, http_port=http)) as made:
            made.open(LOGIN, app.port)
            made.open(REFUSED, app.port)
            yield made, found


def served(port: int, host: str, seconds: float = 60) -> bytes:
    """The certificate that the router shows for a host. Raises OSError if there is none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection,
        context.wrap_socket(connection, server_hostname=host) as secure,
    ):
        made = secure.getpeercert(binary_form=True)
    assert made is not None
    return made


def test_hosts_that_there_are_get_certificates_and_no_others(tmp_path: Path, app: App) -> None:
    with routed(tmp_path, app) as (found, acme):
        first = served(found.port, LOGIN)
        assert served(found.port, LOGIN) == first
        orders = acme.log.read_text().count("Added order")
        for host in (UNKNOWN, "x.login.shop.test", "*.shop.test", "127.0.0.1"):
            with pytest.raises(OSError, match="alert"):
                served(found.port, host)
        assert acme.log.read_text().count("Added order") == orders == 1
        kept = Path(found.home.path) / "router/data/certificates"
        assert [path.stem for path in kept.rglob("*.crt")] == [LOGIN]
        remove_unknown(found.home, lambda host: host != LOGIN)
        assert list(kept.rglob("*.crt")) == []


def test_an_authority_that_refuses_one_host_is_named_and_others_go_on(tmp_path: Path, app: App) -> None:
    with routed(tmp_path, app, refused=[REFUSED]) as (found, _):
        with pytest.raises(OSError):
            served(found.port, REFUSED, seconds=2)
        assert "forbidden domain" in until(lambda: refused(found.home), "it is not named")[REFUSED]
        assert served(found.port, LOGIN)
        assert list(refused(found.home)) == [REFUSED]


def test_a_certificate_is_renewed_before_it_ends(tmp_path: Path, app: App) -> None:
    with routed(tmp_path, app, seconds=9) as (found, _):
        first = served(found.port, LOGIN)
        until(lambda: served(found.port, LOGIN) != first, "it is not renewed")
        assert refused(found.home) == {}


def test_http_01_is_answered_at_the_port_without_tls_and_the_rest_is_redirected(tmp_path: Path, app: App) -> None:
    port = free_port()
    with routed(tmp_path, app, http_port=port) as (found, _):
        config = Path(found.home.path) / "router/caddy.json"
        document = json.loads(config.read_text())
        (policy,) = document["apps"]["tls"]["automation"]["policies"]
        assert policy["issuers"][0]["challenges"]["http"] == {"alternate_port": port}
        policy["issuers"][0]["challenges"]["tls-alpn"] = {"disabled": True}
        from provisioner.hosting.router import admin

        admin.load(os.path.dirname(config), json.dumps(document).encode())
        assert served(found.port, LOGIN)


def test_hosts_that_the_files_do_not_name_get_certificates_of_the_authority(tmp_path: Path, app: App) -> None:
    tls = free_port()
    (tmp_path / "files").mkdir()
    made, key = certificate(tmp_path / "files")
    with authority(tmp_path, tls=tls, http=free_port()) as acme:
        others = Acme("ops@shop.test", acme.directory, acme.roots)
        options = RouterOptions(port=tls, tls=CertificateFiles(str(made), str(key), others))
        with world(tmp_path / "home", options) as found:
            found.open("localhost", app.port)
            found.open(LOGIN, app.port)
            assert served(tls, "localhost") == ssl.PEM_cert_to_DER_cert(made.read_text())
            assert served(tls, LOGIN) != ssl.PEM_cert_to_DER_cert(made.read_text())
            assert acme.log.read_text().count("Added order") == 1
