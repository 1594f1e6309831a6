"""Requests to real endpoints: at moto's server, and at one that keeps what it is sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambdad.adapters.backends import NeighbourBackends
from lambdad.adapters.neighbour_process import NeighbourCommand, NeighbourProcess
from lambdad.domain.errors import RequestEntityTooLargeException
from lambdad.domain.settings import NeighbourEndpoint
from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from neighbours import ACCOUNT_ID, REGION, MotoServer

PART = b"p" * 65536


def backends_with(endpoints: dict[str, NeighbourEndpoint]) -> NeighbourBackends:
    unused = NeighbourCommand(Path("/nonexistent"), True, ACCOUNT_ID, REGION, str)
    return NeighbourBackends(endpoints, NeighbourProcess(unused), ["s3", "kms"])


def asking(
    service: str, method: str, path: str, *, query: str = "", body: Any = b"", **headers: str
) -> NeighbourRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return NeighbourRequest(service, "", ACCOUNT_ID, REGION, "id", method, path, query, named, body)


async def whole(answer: NeighbourAnswer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return b"".join([part async for part in answer.body])


def run(endpoints: dict[str, NeighbourEndpoint], scenario: Callable[[NeighbourBackends], Awaitable[None]]) -> None:
    async def running() -> None:
        backends = backends_with(endpoints)
        try:
            await scenario(backends)
        finally:
            await backends.close(1.0)

    asyncio.run(running())


async def parts_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_objects_go_to_a_real_s3_and_come_back(moto: MotoServer) -> None:
    moto.client("s3").create_bucket(Bucket="outside")

    async def scenario(backends: NeighbourBackends) -> None:
        content = PART * 40
        put = asking(
            "s3", "PUT", "/outside/a%20b/%C3%BC", body=parts_of(*[PART] * 40), content_length=str(len(content))
        )
        assert (await backends.forward(put)).status == 200
        answer = await backends.forward(asking("s3", "GET", "/outside/a%20b/%C3%BC"))
        assert answer.header("Content-Length") == str(len(content))
        assert await whole(answer) == content
        missing = await backends.forward(asking("s3", "GET", "/outside/none"))
        assert (missing.status, b"NoSuchKey" in await whole(missing)) == (404, True)
        chunked = asking(
            "s3",
            "PUT",
            "/outside/chunked",
            body=parts_of(b"5\r\nhe", b"llo\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"),
            content_length="46",
            content_encoding="aws-chunked",
            x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            x_amz_decoded_content_length="5",
            x_amz_trailer="x-amz-checksum-crc32",
        )
        assert (await backends.forward(chunked)).status == 200
        assert moto.client("s3").get_object(Bucket="outside", Key="chunked")["Body"].read() == b"hello"

    run(moto.endpoints, scenario)


def test_which_services_are_outside(moto: MotoServer) -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        assert (backends.has("s3"), backends.is_embedded("s3")) == (True, False)
        assert (backends.has("kms"), backends.is_embedded("kms")) == (True, True)
        assert (await backends.describe())["s3"] == {"kind": "external", "endpoint": moto.url}

    run(moto.endpoints, scenario)


class Recorder:
    """A server that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        return web.Response(text="ok")


def recorded(
    endpoint: Callable[[str], NeighbourEndpoint], service: str, scenario: Callable[[NeighbourBackends], Awaitable[None]]
) -> list[tuple[web.Request, bytes]]:
    async def running() -> list[tuple[web.Request, bytes]]:
        recorder = Recorder()
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{rest:.*}", recorder.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        backends = backends_with({service: endpoint(f"http://{host}:{port}")})
        try:
            await scenario(backends)
        finally:
            await backends.close(1.0)
            await runner.cleanup()
        return recorder.requests

    return asyncio.run(running())


def signature_of(request: web.Request, body: bytes | None, keys: tuple[str, str], region: str) -> str:
    """What the server would find, from what it was sent."""
    names = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in names if name != "x-amz-date"}
    again = AWSRequest(
        request.method, f"http://{request.headers['Host']}{request.raw_path}", headers=headers, data=body or b""
    )
    signer = S3SigV4Auth(Credentials(*keys), "s3", region)
    again.context["timestamp"] = request.headers["X-Amz-Date"]
    again.headers["X-Amz-Date"] = request.headers["X-Amz-Date"]
    return signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def test_a_presigned_request_is_signed_anew() -> None:
    keys = ("THEKEY", "the secret")

    async def scenario(backends: NeighbourBackends) -> None:
        query = "versionId=a%2Bb&X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Signature=0&X-Amz-Expires=9"
        await backends.forward(asking("s3", "GET", "/b/a%20k", query=query, host="127.0.0.1:4566"))

    def endpoint(url: str) -> NeighbourEndpoint:
        return NeighbourEndpoint(url, "eu-central-1", *keys)

    ((request, body),) = recorded(endpoint, "s3", scenario)
    assert request.raw_path == "/b/a%20k?versionId=a%2Bb"
    assert body == b""
    authorization = request.headers["Authorization"]
    assert "Credential=THEKEY/" in authorization
    assert "/eu-central-1/s3/aws4_request" in authorization
    assert authorization.endswith(f"Signature={signature_of(request, b'', keys, 'eu-central-1')}")


def test_without_keys_the_account_signs() -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        await backends.forward(
            asking("sqs", "POST", "/", body=parts_of(b"{", b"}"), x_amz_target="AmazonSQS.ListQueues")
        )

    ((request, body),) = recorded(NeighbourEndpoint, "sqs", scenario)
    assert f"Credential={ACCOUNT_ID}/" in request.headers["Authorization"]
    assert f"/{REGION}/sqs/" in request.headers["Authorization"]
    assert (body, request.headers["X-Amz-Target"]) == (b"{}", "AmazonSQS.ListQueues")
    assert "x-lambdad-service" not in request.headers


def test_a_request_that_must_be_read_is_not_read_without_end() -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        body = parts_of(*[b"x" * 1024 * 1024] * 20)
        with pytest.raises(RequestEntityTooLargeException):
            await backends.forward(asking("sqs", "POST", "/", body=body))

    assert recorded(NeighbourEndpoint, "sqs", scenario) == []


def test_nobody_is_there() -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        with pytest.raises(NeighbourUnavailable, match="s3 does not answer"):
            await backends.forward(asking("s3", "GET", "/b"))

    run({"s3": NeighbourEndpoint("http://127.0.0.1:1")}, scenario)


def test_a_path_before_the_services_own() -> None:
    async def scenario(backends: NeighbourBackends) -> None:
        content = b"x" * 100
        await backends.forward(asking("s3", "PUT", "/b/k", body=content, content_length="100"))

    ((request, body),) = recorded(lambda url: NeighbourEndpoint(f"{url}/store"), "s3", scenario)
    assert request.raw_path == "/store/b/k"
    assert request.headers["X-Amz-Content-SHA256"] == hashlib.sha256(body).hexdigest()
