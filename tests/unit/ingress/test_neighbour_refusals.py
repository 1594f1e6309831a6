"""Requests that an embedded service has failed for, held against its model."""

from __future__ import annotations

from typing import Any

import pytest

from lambdad.domain.neighbour_services import SERVICES
from lambdad.ingress.neighbour_refusals import may_be_refusal, refusal_of
from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest

FAILED = NeighbourAnswer(500, [], b"<Error/>")
NOT_FOUND = NeighbourAnswer(404, [], b"")
FORM = {"content-type": "application/x-www-form-urlencoded"}


def asked(
    service: str, body: bytes = b"", *, operation: str = "", method: str = "POST", path: str = "/", **headers: str
) -> NeighbourRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return NeighbourRequest(service, operation, "0" * 12, "us-east-1", "id", method, path, "", named, body)


def to(service: str, operation: str, body: bytes) -> NeighbourRequest:
    return asked(service, body, operation=operation, x_amz_target=f"{SERVICES[service].target}.{operation}")


def form(service: str, action: str, rest: str = "") -> NeighbourRequest:
    body = f"Action={action}&Version={SERVICES[service].version}{rest}".encode() if action else b""
    return asked(service, body, operation=action, content_type=FORM["content-type"])


@pytest.mark.parametrize(
    ("request_", "answer", "code", "status"),
    [
        (to("kms", "Encrypt", b"{}"), FAILED, "ValidationException", 400),
        (to("kms", "Decrypt", b"{"), FAILED, "SerializationException", 400),
        (to("kms", "Decrypt", b"\xff"), FAILED, "SerializationException", 400),
        (to("kms", "NoSuch", b"{}"), FAILED, "UnknownOperationException", 400),
        (asked("kms", b"{}"), NOT_FOUND, "UnknownOperationException", 400),
        (form("sns", "Publish"), FAILED, "ValidationError", 400),
        (form("sns", "NoSuch"), FAILED, "InvalidAction", 400),
        (form("sns", ""), NOT_FOUND, "MissingAction", 400),
        (form("ec2", "CreateVpc"), FAILED, "", 0),
        (form("ec2", "CreateSubnet"), FAILED, "MissingParameter", 400),
        (form("ec2", "NoSuch"), FAILED, "InvalidAction", 400),
        (asked("efs", path="/2015-02-01/file-systems", body=b"{}"), FAILED, "ValidationException", 400),
        (asked("efs", path="/no/such"), NOT_FOUND, "UnknownOperationException", 404),
    ],
)
def test_what_is_wrong(request_: NeighbourRequest, answer: NeighbourAnswer, code: str, status: int) -> None:
    found = refusal_of(request_, answer)
    assert (found.code, found.status) == (code, status) if found is not None else code == ""


VERSIONING = b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>"
DELETE = b"<Delete><Object>%s</Object></Delete>"


@pytest.mark.parametrize(
    ("operation", "body", "fits"),
    [
        ("PutBucketVersioning", VERSIONING % b"Enabled", True),
        ("PutBucketVersioning", VERSIONING % b"Maybe", False),
        ("PutBucketVersioning", b"<VersioningConfiguration", False),
        ("PutBucketVersioning", b"<a/>", False),
        ("PutBucketVersioning", b"", False),
        ("DeleteObjects", DELETE % b"<Key>a</Key>", True),
        ("DeleteObjects", DELETE % b"<Name>a</Name>", False),
        (
            "CompleteMultipartUpload",
            b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
            False,
        ),
        ("PutObject", b"<a", True),
    ],
)
def test_documents_of_s3(operation: str, body: bytes, fits: bool) -> None:
    found = refusal_of(asked("s3", body, operation=operation, method="PUT", path="/bucket"), FAILED)
    assert (found is None) == fits
    assert found is None or (found.code, found.status) == ("MalformedXML", 400)


@pytest.mark.parametrize(
    ("path", "answer", "code"),
    [
        ("/bucket", NOT_FOUND, "NoSuchBucket"),
        ("/bucket/key", NOT_FOUND, "NoSuchKey"),
        ("/bucket/key", NeighbourAnswer(403, [], b""), "AccessDenied"),
        ("/bucket/key", FAILED, "MethodNotAllowed"),
    ],
)
def test_what_s3_does_not_name(path: str, answer: NeighbourAnswer, code: str) -> None:
    found = refusal_of(asked("s3", path=path), answer)
    assert found is not None
    assert found.code == code


async def _parts() -> Any:
    yield b"part"


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("POST", FAILED, True),
        ("POST", NeighbourAnswer(501, [], b"x"), True),
        ("GET", NOT_FOUND, True),
        ("HEAD", NOT_FOUND, False),
        ("GET", NeighbourAnswer(404, [], b"<Error/>"), False),
        ("GET", NeighbourAnswer(200, [], b""), False),
        ("GET", NeighbourAnswer(500, [], _parts()), False),
    ],
)
def test_which_answers_are_looked_into(method: str, answer: NeighbourAnswer, expected: bool) -> None:
    assert may_be_refusal(asked("s3", method=method), answer) == expected
