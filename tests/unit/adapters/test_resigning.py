"""Signatures for real endpoints: those that botocore would make for the same request there."""

from __future__ import annotations

import hashlib

import pytest

from lambdad.adapters.resigning import UNSIGNED_PAYLOAD, signed_headers, without_signature

HEADERS = {
    "authorization": "AWS4-HMAC-SHA256 Credential=old",
    "x-amz-date": "20200101T000000Z",
    "x-amz-security-token": "old",
    "x-amz-content-sha256": "old",
    "x-amz-meta-a": "b",
    "host": "127.0.0.1:4566",
    "user-agent": "aws-cli",
    "content-type": "text/plain",
}


def signed(service: str, body: bytes | None) -> dict[str, str]:
    return signed_headers(
        "PUT",
        "http://store:9000/b/a%20k?x=1",
        HEADERS,
        body,
        service=service,
        region="eu-west-1",
        keys=("AKID", "secret"),
    )


def test_a_request_has_one_new_signature() -> None:
    headers = signed("s3", b"data")
    assert "Credential=AKID/" in headers["authorization"]
    assert "/eu-west-1/s3/aws4_request" in headers["authorization"]
    names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert names == ["content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-meta-a"]
    assert headers["host"] == "store:9000"
    assert headers["x-amz-date"] != HEADERS["x-amz-date"]
    assert "x-amz-security-token" not in headers
    assert headers["user-agent"] == "aws-cli"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"data").hexdigest()


def test_a_body_that_streams_is_not_in_it() -> None:
    assert signed("s3", None)["x-amz-content-sha256"] == UNSIGNED_PAYLOAD


def test_services_sign_with_names_of_their_own() -> None:
    assert "/eu-west-1/states/aws4_request" in signed("stepfunctions", b"{}")["authorization"]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("list-type=2&prefix=a%2Bb", "list-type=2&prefix=a%2Bb"),
        (
            "versionId=1&X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Signature=0&X-Amz-Expires=9&uploads",
            "versionId=1&uploads",
        ),
        ("AWSAccessKeyId=a&Signature=b&Expires=1&acl", "acl"),
        ("Expires=1&acl", "Expires=1&acl"),
    ],
)
def test_a_query_loses_its_signature(query: str, left: str) -> None:
    assert without_signature(query) == left
