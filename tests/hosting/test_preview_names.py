"""Branches whose names are made to be taken for others': each has a host, and answers there for itself alone."""

from __future__ import annotations

import os
from pathlib import Path

from preview_world import previews
from support import git, status, until

from provisioner.core.host_names import is_host_name

# Pairs and triples that a careless mapping would give one label.
NAMES = [
    *("feature/login", "feature-login", "Feature-Login", "feature_login", "feature.login", "feature--login"),
    *(
        "x" * 63,
        "x" * 64,
        "x" * 200,
        "xn--login-x2a",
        "é",
        "e\u0301",
        "日本語",
        "🌱",
        "1",
        "-dash",
        "dash-",
        "a.b.shop",
    ),
    *(
        "0123456789ab",
        "deadbeef",
        "production",
        "shop",
        "localhost",
        "www",
        "_acme-challenge",
        "$(id)",
        "a;b",
        "{env.HOME}",
    ),
]


def test_no_name_leads_to_the_app_of_another(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home) as world:
        names = [os.fsdecode(name) for name in [*(each.encode() for each in NAMES), b"latin-\xe9"]]
        git(world.clone, "push", "-q", "origin", *(f"main:refs/heads/{name}" for name in names))
        until(lambda: {each["branch"] for each in status(world.bare)} == {"main", *names})
        found = {each["branch"]: each for each in status(world.bare)}
        hosts = {name: found[name]["url"].removeprefix("http://").rpartition(":")[0] for name in names}
        assert len(set(hosts.values())) == len(names)
        for host in hosts.values():
            assert is_host_name(host)
            assert host.count(".") == 2
            assert len(host.partition(".")[0]) <= 63
        clashing = ["feature/login", "feature-login", "x" * 64, "é", "e\u0301", names[-1]]
        for name in clashing:
            answer = world.said(hosts[name])
            assert os.fsencode(answer["timeline"]) == b"git-branch/" + os.fsencode(name)
        # a preview is served for its host only, whatever it is asked for or says that it is
        assert world.get("feature.login.shop.localhost")[0] == 404
        assert (
            world.get(hosts["feature-login"], **{"X-Forwarded-Host": hosts["é"]})[1].count("git-branch/feature-login")
            == 1
        )
