"""Links to packages: who may follow one, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config

from lambdad.ingress.code_links import EXPIRES_S, CodeLinks
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from unit.services.fakes import KEY, World, reference, scenario

ENDPOINT = "http://127.0.0.1:4566"
SECRET = "0123456789abcdef" * 4


def links_of(world: World, key: str = SECRET, endpoint: str = ENDPOINT) -> CodeLinks:
    return CodeLinks(world.functions, world.layers, world.clock, key, lambda: endpoint)


def request_of(link: str, method: str = "GET", **changes: Any) -> NeighbourRequest:
    parts = urlsplit(link)
    fields = {
        "service": "s3",
        "operation": "GetObject",
        "account_id": "111111111111",
        "region": "eu-west-1",
        "request_id": "id",
        "method": method,
        "path": parts.path,
        "query": parts.query,
        "headers": {"host": parts.netloc},
        "body": b"",
    }
    return NeighbourRequest(**{**fields, **changes})


async def follow(links: CodeLinks, link: str, **changes: Any) -> tuple[int, str]:
    """The status, and the error code with its message, or the package."""
    request = request_of(link, **changes)
    assert links.attention(request) is Attention.HEAD
    answer = await links.before(request)
    assert answer is not None
    if isinstance(answer.body, bytes):
        document = ElementTree.fromstring(answer.body)
        return answer.status, f"{document.findtext('Code')}: {document.findtext('Message')}"
    return answer.status, await content(answer)


async def content(answer: NeighbourAnswer) -> str:
    assert not isinstance(answer.body, bytes)
    whole = b"".join([part async for part in answer.body])
    assert answer.header("content-length") == str(len(whole))
    return whole.decode()


@scenario
async def test_a_link_has_the_form_of_awss(world: World) -> None:
    link = links_of(world).location(await world.create())
    parts = urlsplit(link)
    assert link.startswith(f"{ENDPOINT}/awslambda-us-east-1-tasks/snapshots/000000000000/{KEY.name}-")
    assert parse_qs(parts.query).keys() == {
        "versionId",
        "X-Amz-Algorithm",
        "X-Amz-Date",
        "X-Amz-SignedHeaders",
        "X-Amz-Expires",
        "X-Amz-Credential",
        "X-Amz-Signature",
    }
    assert parse_qs(parts.query)["X-Amz-Expires"] == ["600"]


@scenario
async def test_it_is_signed_as_botocore_signs(world: World) -> None:
    """The same request, presigned by a client that has the key: the signature is the same."""
    links = links_of(world)
    link = links.location(await world.create())
    given = dict(parse_qsl(urlsplit(link).query))
    bucket, _, key = urlsplit(link).path[1:].partition("/")
    session = boto3.session.Session("000000000000", SECRET, region_name="us-east-1")
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    client = session.client("s3", endpoint_url=ENDPOINT, config=config)
    parameters = {"Bucket": bucket, "Key": key, "VersionId": given["versionId"]}
    now = datetime.fromtimestamp(world.clock.time(), UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        theirs = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=EXPIRES_S)
    assert dict(parse_qsl(urlsplit(theirs).query)) == given
    assert await follow(links, theirs) == (200, "one")


@scenario
async def test_a_package_is_there_for_ten_minutes(world: World) -> None:
    links = links_of(world)
    link = links.location(await world.create())
    assert await follow(links, link) == (200, "one")
    await world.clock.advance(EXPIRES_S - 1)
    assert await follow(links, link) == (200, "one")
    await world.clock.advance(1)
    assert await follow(links, link) == (403, "AccessDenied: Request has expired")
    assert await follow(links_of(world, "another key"), link) == (
        403,
        "SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    )


@scenario
async def test_a_package_is_there_as_long_as_a_version_has_it(world: World) -> None:
    links = links_of(world)
    first = links.location(await world.create(b"one"))
    await world.functions.publish(reference(), None, None, None)
    second = links.location(await world.functions.update_code(reference(), b"two"))
    assert await follow(links, first) == (200, "one")
    assert await follow(links, second) == (200, "two")
    await world.functions.delete(reference("1"))
    gone = 404, "NoSuchKey: The specified key does not exist."
    assert await follow(links, first) == gone
    await world.functions.delete(reference())
    assert await follow(links, second) == gone


@scenario
async def test_no_part_of_a_link_can_be_changed(world: World) -> None:
    links = links_of(world)
    link = links.location(await world.create())
    await world.functions.publish(reference(), None, None, None)
    other = links.location(await world.functions.update_code(reference(), b"two"))
    url, _, query = link.partition("?")
    given = dict(parse_qsl(query))
    changes = {
        "versionId": dict(parse_qsl(urlsplit(other).query))["versionId"],
        "X-Amz-Date": "20990101T000000Z",
        "X-Amz-Expires": "604800",
        "X-Amz-Credential": given["X-Amz-Credential"].replace("000000000000", "111111111111"),
        "X-Amz-SignedHeaders": "",
        "X-Amz-Algorithm": "",
        "X-Amz-Signature": "0" * 64,
    }
    assert changes.keys() == given.keys()
    for name, value in changes.items():
        for changed in ({**given, name: value}, {**given, name: "\u00fc\ud800"}, given.keys() - {name}):
            parameters = changed if isinstance(changed, dict) else {each: given[each] for each in changed}
            bent = f"{url}?{_query(parameters)}"
            status, error = await follow(links, bent)
            assert (status, error.split(":")[0]) in ((403, "SignatureDoesNotMatch"), (403, "AccessDenied")), bent
    for bent, more in [
        (link.replace("tasks/snapshots/000000000000", "tasks/snapshots/111111111111"), {}),
        (link.replace("us-east-1-tasks", "eu-west-1-tasks"), {}),
        (link.replace(f"/{KEY.name}-", f"/{KEY.name}2-"), {}),
        (link.replace("snapshots", "snapshots/.."), {}),
        (f"{link}&response-content-type=text/html", {}),
        (url, {}),
        (link, {"method": "HEAD"}),
        (link, {"method": "PUT"}),
        (link, {"headers": {"host": "localhost:4566"}}),
        (link, {"headers": {}}),
        (f"{ENDPOINT}/awslambda-us-east-1-tasks", {}),
        (f"{ENDPOINT}/awslambda-us-east-1-tasks/", {"method": "PUT"}),
    ]:
        assert (await follow(links, bent, **more))[0] == 403, bent
    assert await follow(links, link) == (200, "one")


def _query(parameters: dict[str, str]) -> str:
    return urlencode({name: value.encode("utf-8", "surrogatepass") for name, value in parameters.items()})


@scenario
async def test_port_80_is_left_out_by_clients(world: World) -> None:
    links = links_of(world, endpoint="http://localhost:80")
    link = links.location(await world.create())
    assert await follow(links, link, headers={"host": "localhost"}) == (200, "one")


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("s3", "/"),
        ("s3", "/bucket/awslambda-us-east-1-tasks/snapshots"),
        ("s3", "/awslambda-us-east-1-tasks-2/key"),
        ("s3", "/my-awslambda-us-east-1-tasks/key"),
        ("sqs", "/awslambda-us-east-1-tasks/key"),
    ],
)
def test_other_requests_are_no_business_of_it(service: str, path: str) -> None:
    request = request_of(f"{ENDPOINT}{path}", service=service)
    assert links_of(World()).attention(request) is Attention.NONE
