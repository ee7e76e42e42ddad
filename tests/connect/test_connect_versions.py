"""The three versions of the protocol, and what their metadata may look like: clients refuse anything else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import connect_wire as wire
import pytest
from connect_world import Access, access, serving
from support import shop

from provisioner.connect.protocol import datapath_pb2 as pb

KEY = b"\x02key\0"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def login(home: Path, tmp_path: Path) -> Iterator[Access]:
    repository = shop(tmp_path / "shop", "login")
    with serving(home):
        yield access(repository, "login")


@pytest.mark.parametrize(
    ("offered", "version"),
    [
        (b"", 1),
        (b'{"supportedVersions":[1]}', 1),
        (b'{"supportedVersions":[2]}', 2),
        (b'{"supportedVersions":[1,2]}', 2),
        (b'{"supportedVersions":[3,2,1]}', 3),
        (b'{"supportedVersions":[2,3,4,99]}', 3),
    ],
)
def test_each_version_leads_to_the_same_data(login: Access, offered: bytes, version: int) -> None:
    with wire.Wire() as client:
        answer = client.metadata(login.url, login.token, offered)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        document = json.loads(answer.body)
        path = wire.Path.of(login.url, answer.body)
        if version == 1:
            headers = path.headers(x_denokv_database_id="", x_denokv_version="", x_transaction_domain_id=path.database)
        else:
            headers = path.headers(x_denokv_version=str(version))
        written = client.send(path.url("atomic_write"), wire.put(KEY, b"x"), headers)
        found = client.send(path.url("snapshot_read"), wire.get(KEY), headers)
    named = "uuid" if version == 1 else "databaseId"
    assert document.keys() == {"version", named, "endpoints", "token", "expiresAt"}
    assert document["version"] == version
    assert UUID.fullmatch(document[named])
    assert [endpoint.keys() for endpoint in document["endpoints"]] == [{"url", "consistency"}]
    assert not document["endpoints"][0]["url"].endswith("/")
    ends = time.mktime(time.strptime(document["expiresAt"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert ends - time.time() > 3600
    assert (written.status, written.headers["content-type"]) == (200, "application/x-protobuf")
    assert (found.status, found.headers["content-type"]) == (200, "application/x-protobuf")
    output = pb.SnapshotReadOutput.FromString(found.body)
    assert (output.status, output.read_is_strongly_consistent) == (pb.SR_SUCCESS, True)
    (entry,) = output.ranges[0].values
    assert (entry.key, entry.value, entry.encoding) == (KEY, b"x", pb.VE_BYTES)
    assert entry.versionstamp == pb.AtomicWriteOutput.FromString(written.body).versionstamp


def test_no_common_version_is_refused_in_words(login: Access) -> None:
    with wire.Wire() as client:
        for offered in (
            b'{"supportedVersions":[]}',
            b'{"supportedVersions":[4]}',
            b'{"supportedVersions":"3"}',
            b"{",
            b"[]",
        ):
            answer = client.metadata(login.url, login.token, offered)
            assert answer.status == 400
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text


def test_an_empty_body_is_a_valid_message(login: Access) -> None:
    """An empty atomic write commits, and an empty read reads nothing."""
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        written = pb.AtomicWriteOutput.FromString(client.send(path.url("atomic_write"), b"", path.headers()).body)
        again = pb.AtomicWriteOutput.FromString(client.send(path.url("atomic_write"), b"", path.headers()).body)
        read = pb.SnapshotReadOutput.FromString(client.send(path.url("snapshot_read"), b"", path.headers()).body)
    assert written.status == again.status == pb.AW_SUCCESS
    assert len(written.versionstamp) == 10
    assert written.versionstamp < again.versionstamp
    assert (read.status, list(read.ranges)) == (pb.SR_SUCCESS, [])


def test_the_indexes_of_failed_checks_are_told(login: Access) -> None:
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        client.send(path.url("atomic_write"), wire.put(KEY, b"x"), path.headers())
        checks = [pb.Check(key=b"\x02%d\0" % number) for number in range(5)]
        checks[1:1] = [pb.Check(key=KEY), pb.Check(key=KEY, versionstamp=bytes(9) + b"\1")]
        body = pb.AtomicWrite(checks=[*checks, pb.Check(key=KEY)]).SerializeToString()
        answer = client.send(path.url("atomic_write"), body, path.headers())
    output = pb.AtomicWriteOutput.FromString(answer.body)
    assert (answer.status, output.status, list(output.failed_checks)) == (200, pb.AW_CHECK_FAILURE, [1, 2, 7])
    assert not output.versionstamp
