"""Signature Version 4: AWS's own test suite, what botocore signs, and what is refused.

https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambdad.domain import sigv4
from lambdad.domain.errors import IncompleteSignatureException, InvalidSignatureException
from lambdad.domain.sigv4 import Signature, SignedRequest

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNED_S = 1440938160.0  # 2015-08-30T12:36:00Z
FORM = {"content-type": "application/x-www-form-urlencoded"}
VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

SUITE = [
    ("GET", "/", "", {}, b"", VANILLA),
    ("POST", "/", "", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("GET", UNRESERVED, "", {}, b"", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    ("GET", "/", "Param1=value1", {}, b"", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
    ("POST", "/", "Param1=value1", {}, b"", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    (
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        {},
        b"",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "/",
        "Param1=value2&Param1=Value1",
        {},
        b"",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    (
        "GET",
        "/",
        "Param1=value2&Param1=value1",
        {},
        b"",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    (
        "GET",
        "/",
        "",
        {"my-header1": "value2,value2,value1"},
        b"",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "GET",
        "/",
        "",
        {"my-header1": " value1", "my-header2": ' "a   b   c"'},
        b"",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    ("POST", "/", "", FORM, b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("GET", "/example/..", "", {}, b"", VANILLA),
    ("GET", "/example1/example2/../..", "", {}, b"", VANILLA),
    ("GET", "//", "", {}, b"", VANILLA),
    ("GET", "/./", "", {}, b"", VANILLA),
    ("GET", "/./example", "", {}, b"", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
]


def request_of(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> SignedRequest:
    return SignedRequest(
        method, path, query, {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z", **headers}, body
    )


def authorized(request: SignedRequest, signature: str) -> SignedRequest:
    names = ";".join(sorted(request.headers))
    authorization = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return replace(request, headers={**request.headers, "authorization": authorization})


def parsed(request: SignedRequest) -> Signature:
    signature = sigv4.parse(request)
    assert signature is not None
    return signature


def check(request: SignedRequest, secret: str = SECRET, now_s: float = SIGNED_S, **options: str) -> None:
    expected: dict[str, Any] = {"region": "us-east-1", "service": "service", **options}
    sigv4.verify(parsed(request), request, secret, now_s=now_s, **expected)


@pytest.mark.parametrize(("method", "path", "query", "headers", "body", "signature"), SUITE)
def test_the_suite_of_aws(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    request = request_of(method, path, query, headers, body)
    check(authorized(request, signature))
    for wrong in (signature[:-1] + ("0" if signature[-1] != "0" else "1"), signature.upper(), ""):
        if wrong:
            with pytest.raises(InvalidSignatureException, match="signature we calculated does not match"):
                check(authorized(request, wrong))


def test_a_body_is_what_its_hash_says_also_where_the_hash_is_signed() -> None:
    headers = {"x-amz-content-sha256": hashlib.sha256(b"said").hexdigest()}
    unsigned = authorized(request_of("POST", "/", "", headers, b"said"), "0")
    digest = hashlib.sha256(b"said").hexdigest()
    signature = sigv4.calculate(parsed(unsigned), unsigned, digest, SECRET)
    request = authorized(request_of("POST", "/", "", headers, b"said"), signature)
    check(request)
    with pytest.raises(InvalidSignatureException, match="signature we calculated does not match"):
        check(replace(request, body=b"other"))


def test_the_key_is_of_the_day_of_the_signature() -> None:
    """A key that was derived for one day, which may have come into other hands, signs nothing on another."""
    headers = {name: value for name, value in vanilla().headers.items() if name != "authorization"}
    other_day = authorized(request_of("GET", "/", "", headers, b""), "0")
    scope = parsed(other_day)
    yesterday = replace(scope, date="20150829")
    signature = sigv4.calculate(yesterday, other_day, hashlib.sha256(b"").hexdigest(), SECRET)
    with pytest.raises(InvalidSignatureException, match="Date in Credential scope does not match"):
        sigv4.verify(
            replace(yesterday, signature=signature),
            other_day,
            SECRET,
            region="us-east-1",
            service="service",
            now_s=SIGNED_S,
        )


def vanilla(**changes: Any) -> SignedRequest:
    return replace(authorized(request_of("GET", "/", "", {}, b""), VANILLA), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "POST"},
        {"path": "/other"},
        {"query": "a=b"},
        {"body": b"x"},
        {"headers": {**vanilla().headers, "host": "other.amazonaws.com"}},
        {"headers": {**vanilla().headers, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}},
        {"headers": {**vanilla().headers, "x-amz-content-sha256": hashlib.sha256(b"x").hexdigest()}},
    ],
)
def test_whatever_is_signed_cannot_be_changed(changes: dict[str, Any]) -> None:
    check(vanilla())
    with pytest.raises(InvalidSignatureException):
        check(vanilla(**changes))


def test_another_secret() -> None:
    with pytest.raises(InvalidSignatureException):
        check(vanilla(), secret="test")


def test_a_signature_is_for_one_region_and_service() -> None:
    with pytest.raises(InvalidSignatureException, match="correct service: 'lambda'"):
        check(vanilla(), service="lambda")
    with pytest.raises(InvalidSignatureException, match="valid region: 'eu-central-1'"):
        check(vanilla(), region="eu-central-1")


def test_a_signature_is_good_for_five_minutes_around_its_time() -> None:
    check(vanilla(), now_s=SIGNED_S + 300)
    check(vanilla(), now_s=SIGNED_S - 300)
    with pytest.raises(InvalidSignatureException) as caught:
        check(vanilla(), now_s=SIGNED_S + 301)
    assert caught.value.message == (
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    )
    with pytest.raises(InvalidSignatureException, match="Signature not yet current: 20150830T123600Z is still later"):
        check(vanilla(), now_s=SIGNED_S - 301)


def test_the_host_must_be_signed() -> None:
    request = vanilla()
    authorization = request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    with pytest.raises(InvalidSignatureException, match="'Host' or ':authority' must be a 'SignedHeader'"):
        check(vanilla(headers={**request.headers, "authorization": authorization}))


@pytest.mark.parametrize(
    ("authorization", "complaint"),
    [
        ("AWS4-ECDSA-P256-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=0", "Unsupported AWS"),
        ("AWS4-HMAC-SHA256", "requires 'Credential' parameter. .*requires 'SignedHeaders'.*requires 'Signature'"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "exactly 5 slash-delimited elements"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0", "exactly 5 slash-delimited"),
        ("AWS4-HMAC-SHA256 Credential=a/1/r/s/aws4_request, Signature=0", "requires 'SignedHeaders' parameter"),
    ],
)
def test_what_is_no_signature(authorization: str, complaint: str) -> None:
    with pytest.raises(IncompleteSignatureException, match=complaint):
        sigv4.parse(vanilla(headers={**vanilla().headers, "authorization": authorization}))


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer x"}, {"authorization": "Basic AWS4-"}])
def test_no_signature_at_all(headers: dict[str, str]) -> None:
    assert sigv4.parse(SignedRequest("GET", "/", "a=b", headers, b"")) is None


def test_a_date_that_is_none() -> None:
    with pytest.raises(IncompleteSignatureException, match="ISO-8601 'basic format'"):
        check(vanilla(headers={**vanilla().headers, "x-amz-date": "20150830"}))


def signed_by_botocore(auth: Any, url: str, method: str = "GET", body: bytes = b"") -> SignedRequest:
    request = AWSRequest(method, url, {"Host": url.split("/")[2], "X-Custom": "a  b"}, data=body)
    auth.add_auth(request)
    target = request.url.split("/", 3)[3]
    path, _, query = f"/{target}".partition("?")
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    return SignedRequest(method, path, query, headers, body)


@pytest.mark.parametrize(
    "url",
    [
        "http://x.lambda-url.us-east-1.localhost:4566/",
        "http://x.lambda-url.us-east-1.localhost/a%20b/%C3%BC/~x/?q=a%2Fb&empty=&q=a&z",
        "http://127.0.0.1:4566/_lambdad/urls/x//two/../one/",
    ],
)
@pytest.mark.parametrize(
    ("auth_class", "method", "body"),
    [(SigV4Auth, "GET", b""), (SigV4Auth, "POST", b'{"a":1}'), (SigV4QueryAuth, "GET", b"")],
)
def test_what_botocore_signs(url: str, auth_class: Any, method: str, body: bytes) -> None:
    request = signed_by_botocore(
        auth_class(Credentials("AKID", SECRET, "a-token"), "lambda", "us-east-1"), url, method, body
    )
    signature = parsed(request)
    now_s = sigv4_time(signature)
    assert (signature.access_key_id, signature.security_token) == ("AKID", "a-token")
    sigv4.verify(signature, request, SECRET, region="us-east-1", service="lambda", now_s=now_s)
    with pytest.raises(InvalidSignatureException):
        sigv4.verify(signature, request, "other", region="us-east-1", service="lambda", now_s=now_s)


def sigv4_time(signature: Signature) -> float:
    return datetime.strptime(signature.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def test_a_presigned_url_is_good_for_as_long_as_it_says() -> None:
    auth = SigV4QueryAuth(Credentials("AKID", SECRET), "lambda", "us-east-1", expires=60)
    request = signed_by_botocore(auth, "http://h/p?a=b")
    signature = parsed(request)
    signed_s = sigv4_time(signature)
    place = {"region": "us-east-1", "service": "lambda"}
    sigv4.verify(signature, request, SECRET, now_s=signed_s + 60, **place)
    with pytest.raises(InvalidSignatureException, match="Signature expired"):
        sigv4.verify(signature, request, SECRET, now_s=signed_s + 61, **place)
    longer = replace(request, query=request.query.replace("Expires=60", "Expires=600"))
    with pytest.raises(InvalidSignatureException, match="does not match"):
        sigv4.verify(parsed(longer), longer, SECRET, now_s=signed_s, **place)
    for expires in ("604801", "-1", "x", ""):
        with pytest.raises(IncompleteSignatureException):
            sigv4.parse(replace(request, query=request.query.replace("Expires=60", f"Expires={expires}")))
    with pytest.raises(IncompleteSignatureException, match="must include 'X-Amz-Credential'"):
        sigv4.parse(replace(request, query=request.query.replace("X-Amz-Credential", "Credential")))
