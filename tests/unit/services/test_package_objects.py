"""Packages out of S3: what is asked of it, what Lambda makes of its refusals, and how much is held on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from lambdad.domain import quotas
from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    ServiceError,
    ServiceException,
)
from lambdad.domain.packages import PackageObject
from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.services.package_objects import ERROR_BYTES, PackageObjects
from unit.services.fakes import World, draft, reference, scenario

PLACE = PackageObject("bucket", "a key/ü.zip")
CREDENTIALS = "000000000000", "us-east-1"


class FakeS3:
    """Answers with what a test says, and notes what it is asked. Bodies that are generators must be closed."""

    def __init__(self, status: int = 200, body: Any = b"package", region: str = "us-east-1") -> None:
        self.requests: list[NeighbourRequest] = []
        self.answer = NeighbourAnswer(status, [], body)
        self.region = region
        self.known = True
        self.unavailable: NeighbourUnavailable | None = None

    def has(self, service: str) -> bool:
        return self.known and service == "s3"

    def is_embedded(self, service: str) -> bool:
        return True

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        if self.unavailable is not None:
            raise self.unavailable
        self.requests.append(request)
        if request.method == "HEAD":
            return NeighbourAnswer(200, [("X-Amz-Bucket-Region", self.region)] if self.region else [])
        return self.answer

    async def inspect(self, what: str, parameters: Mapping[str, Any]) -> Any:
        raise NotImplementedError


class Parts:
    """A body in parts that knows whether it was closed, and how much of it was asked for."""

    def __init__(self, part: bytes, count: int, error: Exception | None = None) -> None:
        self.part, self.count, self.error = part, count, error
        self.sent = 0
        self.closed = False

    async def body(self) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(self.count):
                self.sent += 1
                yield self.part
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def read(s3: FakeS3, place: PackageObject = PLACE) -> bytes:
    return b"".join([part async for part in PackageObjects(s3).read(place, *CREDENTIALS)])


def refusal(code: str, message: str, namespace: str = "") -> bytes:
    return f'<?xml version="1.0"?>\n<Error{namespace}><Code>{code}</Code><Message>{message}</Message></Error>'.encode()


async def error_of(s3: FakeS3, place: PackageObject = PLACE) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await read(s3, place)
    return caught.value


@scenario
async def test_the_object_is_asked_for_by_path_and_version(world: World) -> None:
    s3 = FakeS3()
    assert await read(s3) == b"package"
    assert await read(s3, PackageObject("bucket", "k", "a/b+c&d")) == b"package"
    asked = [(request.method, request.operation, request.path, request.query) for request in s3.requests]
    assert asked == [
        ("HEAD", "HeadBucket", "/bucket", ""),
        ("GET", "GetObject", "/bucket/a%20key/%C3%BC.zip", ""),
        ("HEAD", "HeadBucket", "/bucket", ""),
        ("GET", "GetObject", "/bucket/k", "versionId=a%2Fb%2Bc%26d"),
    ]
    assert {(r.service, r.account_id, r.region, r.body) for r in s3.requests} == {("s3", *CREDENTIALS, b"")}


@scenario
async def test_nothing_is_asked_before_it_is_read(world: World) -> None:
    s3 = FakeS3()
    unread = PackageObjects(s3).read(PLACE, *CREDENTIALS)
    await unread.aclose()
    assert s3.requests == []


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("NoSuchKey", 404, "The specified key does not exist."),
        ("NoSuchBucket", 404, "The specified bucket does not exist"),
        ("NoSuchVersion", 404, "The specified version does not exist."),
        ("InvalidArgument", 400, "Invalid version id specified"),
    ],
)
def test_what_s3_refuses(code: str, status: int, message: str) -> None:
    @scenario
    async def inside(world: World) -> None:
        error = await error_of(FakeS3(status, refusal(code, message)))
        assert isinstance(error, InvalidParameterValueException)
        assert error.message == f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"

    inside()


@scenario
async def test_access_denied(world: World) -> None:
    error = await error_of(FakeS3(403, refusal("AccessDenied", "Access Denied")))
    assert isinstance(error, AccessDeniedException)
    assert error.message == (
        "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for "
        "bucket/a key/ü.zip. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    )


@scenario
async def test_another_region(world: World) -> None:
    s3 = FakeS3(region="eu-west-1")
    error = await error_of(s3)
    assert isinstance(error, InvalidParameterValueException)
    assert error.message == (
        "Error occurred while GetObject. S3 Error Code: PermanentRedirect. S3 Error Message: "
        "The bucket is in this region: eu-west-1. Please use this region to retry the request"
    )
    assert [request.method for request in s3.requests] == ["HEAD"]
    assert await read(FakeS3(region="")) == b"package"  # a server that does not say


@scenario
async def test_s3_that_cannot_answer_now(world: World) -> None:
    s3 = FakeS3()
    s3.unavailable = NeighbourUnavailable("it is being started")
    assert isinstance(await error_of(s3), ServiceException)
    assert isinstance(
        await error_of(FakeS3(503, refusal("SlowDown", "Please reduce your request rate."))), ServiceException
    )
    broken = Parts(b"half", 1, NeighbourUnavailable("it has gone away"))
    assert isinstance(await error_of(FakeS3(body=broken.body())), ServiceException)
    s3 = FakeS3()
    s3.known = False
    assert isinstance(await error_of(s3), InvalidParameterValueException)


@pytest.mark.parametrize("body", [b"", b"no XML", b"<a/>", b"<Error>", b"\xff"])
def test_an_answer_that_is_no_error_document(body: bytes) -> None:
    @scenario
    async def inside(world: World) -> None:
        error = await error_of(FakeS3(404, body))
        assert error.message == "Error occurred while GetObject. S3 Error Code: 404. S3 Error Message: "

    inside()


@scenario
async def test_an_endless_error_is_not_read_to_its_end(world: World) -> None:
    parts = Parts(bytes(1024), 1_000_000)
    await error_of(FakeS3(404, parts.body()))
    assert parts.sent <= ERROR_BYTES // 1024 + 1
    assert parts.closed


async def create(world: World, s3: FakeS3) -> Any:
    return await world.functions.create(draft(), PackageObjects(s3).read(PLACE, *CREDENTIALS), {}, False)


@scenario
async def test_a_function_is_made_of_it(world: World) -> None:
    created = await create(world, FakeS3(body=Parts(b"part", 3).body()))
    assert (created.code_size, created.code_sha256) == (12, hashlib.sha256(b"part" * 3).hexdigest())
    assert await world.blobs.get(created.code_sha256) == b"part" * 3
    updated = await world.functions.update_code(
        reference(), PackageObjects(FakeS3()).read(PLACE, *CREDENTIALS), publish=True
    )
    assert updated.version == "1"
    await world.code.settle()
    assert await world.blobs.list() == [hashlib.sha256(b"package").hexdigest()]


@scenario
async def test_a_dry_run_reads_it_and_keeps_nothing(world: World) -> None:
    created = await world.create()
    package = PackageObjects(FakeS3()).read(PLACE, *CREDENTIALS)
    would_be = await world.functions.update_code(reference(), package, dry_run=True)
    assert would_be.code_sha256 == hashlib.sha256(b"package").hexdigest()
    await world.code.settle()
    assert await world.blobs.list() == [created.code_sha256]


@scenario
async def test_one_that_is_refused_on_its_way_leaves_nothing(world: World) -> None:
    with pytest.raises(InvalidParameterValueException):
        await create(world, FakeS3(404, refusal("NoSuchKey", "The specified key does not exist.")))
    assert await world.blobs.list() == []
    assert (await world.functions.list_functions(*CREDENTIALS, all_versions=False, marker=None, limit=1)).versions == []


@scenario
async def test_more_than_may_be_unpacked_is_not_read(world: World) -> None:
    megabyte = 1024 * 1024
    parts = Parts(bytes(megabyte), 1_000_000)
    with pytest.raises(InvalidParameterValueException, match="Unzipped size must be smaller than 262144000 bytes"):
        await create(world, FakeS3(body=parts.body()))
    assert parts.sent == quotas.UNZIPPED_BYTES // megabyte + 1
    assert parts.closed
    assert await world.blobs.list() == []


@scenario
async def test_one_in_s3_may_be_larger_than_one_in_a_request(world: World) -> None:
    parts = Parts(bytes(1024 * 1024), quotas.ZIPPED_BYTES // (1024 * 1024) + 1)
    assert (await create(world, FakeS3(body=parts.body()))).code_size > quotas.ZIPPED_BYTES
