"""Custom domains: claimed once, verified, routed to one timeline, ended with it, and never handed on by accident."""

from __future__ import annotations

import json
import os
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from preview_world import previews
from support import git, ok, provisioner, repository, status, until
from threaded_server import threaded

from provisioner.cli.commands.app import domain as commands
from provisioner.core.custom_domains import parse_domain
from provisioner.core.errors import NotResolved, UsageError
from provisioner.hosting import custom_domains
from provisioner.registry.store import Registry

WWW = "www.shop.test"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("WWW.Example.com.", "www.example.com"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("faß.de", "xn--fa-hia.de"),  # IDNA 2008: another domain than fass.de
        ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
        ("a\u3002de", "a.de"),
    ],
)
def test_a_domain_is_stored_as_dns_has_it(given: str, name: str) -> None:
    assert parse_domain(given) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "com",
            "-a.de",
            "a..de",
            "a_b.de",
            "*.example.com",
            "https://example.com",
            "example.com/x",
            "example.com:80",
        ),
        *(
            "127.0.0.1",
            "1.0x7f",
            "::1",
            "a.1",
            "localhost",
            "www.localhost",
            "xn--a.de",
            "ab--c.de",
            "☃.de",
            "\u202ea.de",
        ),
        *("a.de\r\nHost: b.de", "a\x00.de", "a" * 64 + ".de", ".".join(["a" * 60] * 5)),
    ],
)
def test_what_cannot_be_a_custom_domain_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_domain(text)


@contextmanager
def nameserver(records: dict[str, str]) -> Iterator[str]:
    """A DNS server with these TXT records, which fails for all but one other name: its address."""
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rrset

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked = dns.message.from_wire(self.request[0])
            name = str(asked.question[0].name).rstrip(".").lower()
            answer = dns.message.make_response(asked)
            if name in records:
                answer.answer = [dns.rrset.from_text(asked.question[0].name, 60, "IN", "TXT", f'"{records[name]}"')]
            else:
                answer.set_rcode(dns.rcode.NXDOMAIN if name == f"_provisioner.{WWW}" else dns.rcode.SERVFAIL)
            self.request[1].sendto(answer.to_wire(), self.client_address)

    with threaded(socketserver.ThreadingUDPServer(("127.0.0.1", 0), Answer)) as address:
        yield address


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = repository(tmp_path / "shop")
    git(made, "branch", "login")
    ok(made, "init")
    ok(made, "app", "run", "--command", "exec python3 server.py")
    return made


def domain(where: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok(where, "app", "domain", *words, "--json"))
    return found


def listed(where: Path) -> dict[str, dict[str, Any]]:
    return {each["domain"]: each for each in json.loads(ok(where, "app", "domain", "list", "--json"))}


def test_a_domain_is_verified_by_its_record_in_dns(repo: Path) -> None:
    added = domain(repo, "add", WWW)
    assert (added["timeline"], added["routed"], added["verified_by"]) == ("production", False, None)
    assert domain(repo, "add", WWW) == added
    record = added["record"]
    assert record["name"] == f"_provisioner.{WWW}"
    assert f'Set the TXT record {record["name"]} to "{record["value"]}"' in added["problem"]
    records: dict[str, str] = {}
    with nameserver(records) as asked:
        verify = ("app", "domain", "verify", WWW, "--nameserver", asked)
        assert "has no TXT record" in provisioner(repo, *verify).stderr
        records[record["name"]] = "provisioner=0123"
        refused = provisioner(repo, *verify)
        assert (refused.returncode, "has another value" in refused.stderr) == (1, True)
        records[record["name"]] = record["value"]
        found = domain(repo, *verify[2:])
    assert (found["routed"], found["problem"], found["verified_by"]) == (True, None, "dns")
    assert found["url"] == f"http://{WWW}:4580"
    assert [each["domains"] for each in status(repo) if each["timeline"] == "production"] == [[f"http://{WWW}:4580"]]
    assert json.loads(ok(repo, "app", "show", "--json"))["domains"] == {WWW: "production"}


def test_a_dns_server_that_fails_verifies_nothing(repo: Path) -> None:
    domain(repo, "add", WWW)
    domain(repo, "add", "broken.test")
    with nameserver({}) as asked:
        refused = provisioner(repo, "app", "domain", "verify", "broken.test", "--nameserver", asked)
    assert (refused.returncode, "cannot look up" in refused.stderr) == (1, True)
    assert provisioner(repo, "app", "domain", "verify", WWW, "--nameserver", "dns.example").returncode == 2
    assert not listed(repo)[WWW]["routed"]
    doctor = provisioner(repo, "doctor")
    assert doctor.returncode == 1
    assert f"FAIL domain {WWW}: it is not verified. Set the TXT record" in doctor.stdout


def test_a_domain_is_claimed_once_in_the_home(repo: Path, tmp_path: Path) -> None:
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    for words in (("--trust",), ("--branch", "main", "--trust")):
        refused = provisioner(repo, "app", "domain", "add", WWW.upper(), *words)
        assert (refused.returncode, f"{WWW} belongs to git-branch/login of shop" in refused.stderr) == (1, True)
    other = repository(tmp_path / "other")
    ok(other, "init")
    refused = provisioner(other, "app", "domain", "add", WWW, "--trust")
    assert f"Remove it there first: provisioner app domain remove {WWW}" in refused.stderr
    assert provisioner(repo, "app", "domain", "remove", WWW).returncode != 0  # there is no terminal to ask at
    ok(repo, "app", "domain", "remove", WWW, "--yes")
    assert domain(other, "add", WWW)["routed"] is False  # the word for one timeline is none for another


def test_a_domain_that_was_removed_while_it_was_added_is_reported(
    repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = custom_domains.add

    def added_and_removed(registry: Registry, *words: object, **options: object) -> object:
        found = add(registry, *words, **options)  # type: ignore[arg-type]
        custom_domains.remove(registry, WWW)
        return found

    monkeypatch.setattr(custom_domains, "add", added_and_removed)
    monkeypatch.chdir(repo)
    with pytest.raises(NotResolved, match=f"domain {WWW} was removed"):
        commands.add.main([WWW], standalone_mode=False)


def test_the_hosts_of_previews_and_of_the_dashboard_are_no_custom_domains(repo: Path, home: Path) -> None:
    """As the router that was started last has said."""
    said = {
        "scheme": "https",
        "domain": "preview.shop.test",
        "port": 443,
        "everyone": False,
        "dashboard": "db.shop.test",
    }
    (home / "router").mkdir(exist_ok=True)
    (home / "router/address").write_text(json.dumps(said))
    for name in ("preview.shop.test", "login.shop.preview.shop.test", "db.shop.test"):
        refused = provisioner(repo, "app", "domain", "add", name, "--trust")
        assert (refused.returncode, "cannot be added" in refused.stderr) == (1, True)
    domain(repo, "add", WWW, "--trust")
    assert listed(repo)[WWW]["url"] == f"https://{WWW}"
    (home / "router/address").write_text(json.dumps({**said, "dashboard": WWW}))
    assert "the dashboard's host" in listed(repo)[WWW]["problem"]
    assert status(repo)[0]["domains"] == []


def test_a_claim_ends_with_its_timeline_and_another_branch_of_the_name_does_not_get_it(repo: Path) -> None:
    ok(repo, "app", "set", "--grace", "0s")
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    domain(repo, "add", "shop.test", "--trust")
    ok(repo, "database", "reset", "login", "--yes")
    assert listed(repo)[WWW]["routed"]
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert [(each["routed"], each["ended_at"] is None) for each in listed(repo).values()] == [
        (False, False),
        (True, True),
    ]
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    assert [each["status"] for each in status(repo) if each["branch"] == "login"] == ["connected"]
    assert not listed(repo)[WWW]["routed"]
    assert f"FAIL domain {WWW}: its timeline was archived or its app removed" in provisioner(repo, "doctor").stdout
    assert "has ended" in provisioner(repo, "app", "domain", "verify", WWW, "--trust").stderr
    ended = listed(repo)[WWW]["record"]["value"]
    again = domain(repo, "add", WWW, "--branch", "login")
    assert (again["routed"], again["record"]["value"] == ended) == (False, False)


def test_a_claim_ends_with_its_app_and_stays_ended_when_the_app_is_registered_again(repo: Path) -> None:
    domain(repo, "add", WWW, "--trust")
    ok(repo, "app", "remove", "--yes")
    ok(repo, "init")
    assert listed(repo)[WWW]["ended_at"] is not None


def test_a_branch_that_is_back_within_its_grace_period_keeps_its_domain(repo: Path) -> None:
    ok(repo, "app", "set", "--grace", "1h")
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    assert listed(repo)[WWW]["routed"]


def owners(where: Path) -> dict[str, tuple[str, bool]]:
    """The timeline of each claim, and whether it has requests."""
    return {name: (each["timeline"], each["routed"]) for name, each in listed(where).items()}


def test_a_domain_goes_with_a_branch_that_is_renamed(repo: Path) -> None:
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    git(repo, "branch", "-m", "login", "sign-in")
    ok(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/sign-in", True)}
    assert [each["domains"] for each in status(repo) if each["branch"] == "sign-in"] == [[f"http://{WWW}:4580"]]
    git(repo, "branch", "login")
    ok(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/sign-in", True)}


def test_domains_go_with_branches_that_exchange_their_names(repo: Path) -> None:
    git(repo, "branch", "other")
    ok(repo, "reconcile")
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    domain(repo, "add", "other.test", "--branch", "other", "--trust")
    for old, new in (("login", "t"), ("other", "login"), ("t", "other")):
        git(repo, "branch", "-m", old, new)
    ok(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/other", True), "other.test": ("git-branch/login", True)}


def test_the_domain_of_a_branch_ends_when_another_one_is_renamed_over_it(repo: Path) -> None:
    git(repo, "branch", "other")
    ok(repo, "reconcile")
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    domain(repo, "add", "other.test", "--branch", "other", "--trust")
    git(repo, "branch", "-M", "other", "login")
    ok(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/login", False), "other.test": ("git-branch/login", True)}


def test_the_domain_of_a_branch_that_was_replaced_ends_though_a_database_of_it_cannot_be_archived(
    repo: Path, tmp_path: Path
) -> None:
    place = tmp_path / "far"
    git(repo, "branch", "other")
    ok(repo, "instance", "add", "far", "--directory", place)
    ok(repo, "assign", "far", "shop")
    ok(repo, "reconcile")
    domain(repo, "add", WWW, "--branch", "login", "--trust")
    place.rename(tmp_path / "unreachable")
    git(repo, "branch", "-M", "other", "login")
    provisioner(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/login", False)}
    (tmp_path / "unreachable").rename(place)
    ok(repo, "reconcile")
    assert owners(repo) == {WWW: ("git-branch/login", False)}


def test_requests_for_a_domain_go_to_its_timeline_alone(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home) as world:
        world.push("login", "hello")
        domain(world.bare, "add", WWW, "--branch", "login")
        assert world.get(WWW)[0] == 404
        ok(world.bare, "app", "domain", "verify", WWW, "--trust")
        # A name that is not in localhost may lead here from other machines, so it needs a sign-in unless the app is public.
        until(lambda: world.get(WWW)[0] == 401)
        link = ok(world.bare, "open", "login", "--share", "1h").strip()
        assert link.startswith(f"http://{WWW}:{world.port}/.provisioner/sign-in?link=")
        ok(world.bare, "app", "run", "--public")
        until(lambda: world.get(WWW)[0] == 200)
        assert world.said(WWW)["timeline"] == world.said("login.shop.localhost")["timeline"] == "git-branch/login"
        assert world.get(f"login.{WWW}")[0] == 404
        world.push("login", "again")
        until(lambda: world.said(WWW)["text"] == "again")
        ok(world.bare, "app", "domain", "remove", WWW, "--yes")
        assert world.get(WWW)[0] == 404  # at once: not even the daemon is needed
        domain(world.bare, "add", WWW, "--branch", "main", "--trust")
        until(lambda: world.get(WWW)[0] == 200 and world.said(WWW)["timeline"] == "production")
        domain(world.bare, "add", "login.test", "--branch", "login", "--trust")
        until(lambda: world.get("login.test")[0] == 200)
        git(world.clone, "push", "-q", "origin", ":login")
        until(lambda: world.get("login.test")[0] == 404)
        assert world.said(WWW)["timeline"] == "production"
        assert not [name for name in os.listdir(home / "router/open") if name.startswith("login")]
