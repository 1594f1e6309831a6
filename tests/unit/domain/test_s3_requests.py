"""What S3 is asked, told as botocore asks it: every operation of its model, in both styles of address."""

from functools import cache

import botocore.session
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from lambdad.domain.s3_requests import POST_OBJECT, S3Request, parse, path_style

# What the wire cannot tell apart: both names of a pair are one request.
SAME_REQUEST = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
}
KEY = "ünder/a b+c&d=e?f%20.txt"
MODEL = botocore.session.get_session().get_service_model("s3")


def value_of(name, shape):
    """Something that botocore's serializer takes for a shape."""
    if name == "Bucket":
        return "my-bucket"
    if name == "Key":
        return KEY
    match shape.type_name:
        case "structure":
            names = shape.required_members or (list(shape.members)[:1] if shape.is_tagged_union else [])
            return {each: value_of(each, shape.members[each]) for each in names}
        case "list":
            return [value_of("", shape.member)]
        case "map":
            return {}
        case "integer" | "long":
            return 1
        case "boolean":
            return True
        case "timestamp":
            return "2026-01-01T00:00:00Z"
        case "blob":
            return b"x"
        case _:
            return "x" * max(1, shape.metadata.get("min", 1))


class Sent(Exception):
    """Raised with the request in place of sending it."""


@cache
def client_of(style):
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    config = Config(s3={"addressing_style": style})
    client = session.create_client("s3", region_name="us-east-1", endpoint_url="http://localhost:4566", config=config)

    def stop(request, **_):
        raise Sent(request)

    client.meta.events.register("before-send.s3", stop)
    return client


def sent_by_botocore(operation, style):
    """The request that botocore makes of an operation with its required parameters."""
    client = client_of(style)
    shape = MODEL.operation_model(operation).input_shape
    method = next(each for each, name in client.meta.method_to_api_mapping.items() if name == operation)
    with pytest.raises(Sent) as sent:
        getattr(client, method)(**(value_of("", shape) if shape else {}))
    return sent.value.args[0]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("operation", MODEL.operation_names)
def test_each_operation_of_the_model_is_told_from_the_others(operation, style):
    sent = sent_by_botocore(operation, style)
    scheme, _, rest = sent.url.partition("://")
    authority, slash, path_and_query = rest.partition("/")
    path, _, query = (slash + path_and_query).partition("?")
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sent.headers.items()
    }
    members = MODEL.operation_model(operation).input_shape
    has_bucket = members is not None and "Bucket" in members.members
    has_key = members is not None and "Key" in members.members
    request = parse(sent.method, authority, path, query, headers)
    assert scheme == "http"
    assert request == S3Request(
        SAME_REQUEST.get(operation, operation), "my-bucket" if has_bucket else "", KEY if has_key else ""
    )
    again = parse(sent.method, "localhost", path_style(request), query, headers)
    assert again == request


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("photos.s3.localhost:4566", "photos"),
        ("photos.s3.localhost", "photos"),
        ("photos.s3.eu-west-1.localhost:4566", "photos"),
        ("photos.localhost:4566", "photos"),
        ("photos.s3.localhost.localstack.cloud:4566", "photos"),
        ("photos.s3.us-east-1.localhost.localstack.cloud:4566", "photos"),
        ("photos.s3.amazonaws.com", "photos"),
        ("photos.s3.us-gov-west-1.amazonaws.com", "photos"),
        ("photos.s3-us-west-2.amazonaws.com", "photos"),
        ("photos.s3.dualstack.us-west-2.amazonaws.com", "photos"),
        ("Photos.S3.LocalHost", "photos"),
        ("www.example.com.s3.localhost", "www.example.com"),
        ("www.example.com.s3.eu-west-1.localhost", "www.example.com"),
        ("www.example.com.localhost:4566", "www.example.com"),
        ("my-s3.localhost", "my-s3"),
        ("a.s3.s3.localhost", "a.s3"),
    ],
)
def test_virtual_hosts_name_the_bucket(host, bucket):
    assert parse("GET", host, "/a/b.txt", "", {}) == S3Request("GetObject", bucket, "a/b.txt")
    assert parse("GET", host, "/", "", {}) == S3Request("ListObjects", bucket, "")


@pytest.mark.parametrize(
    "host",
    [
        "localhost:4566",
        "127.0.0.1:4566",
        "[::1]:4566",
        "s3.localhost:4566",
        "s3.eu-west-1.localhost",
        "s3.localhost.localstack.cloud:4566",
        "localhost.localstack.cloud:4566",
        "s3.amazonaws.com",
        "s3.us-east-1.amazonaws.com",
        "s3-us-west-2.amazonaws.com",
        "lambdad.internal",
        "",
    ],
)
def test_other_hosts_leave_the_bucket_to_the_path(host):
    assert parse("GET", host, "/photos/a/b.txt", "", {}) == S3Request("GetObject", "photos", "a/b.txt")
    assert parse("GET", host, "/photos/", "", {}) == S3Request("ListObjects", "photos", "")
    assert parse("GET", host, "/", "", {}) == S3Request("ListBuckets", "", "")


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("POST", "/b", "", {"content-type": "multipart/form-data; boundary=x"}, POST_OBJECT),
        ("POST", "/b", "", {"content-type": "text/plain"}, ""),
        ("OPTIONS", "/b/k", "", {}, ""),
        ("POST", "/b/k", "", {}, ""),
        ("PUT", "/", "", {}, ""),
        ("GET", "/b/k", "versionId=1&partNumber=2", {}, "GetObject"),
        ("PUT", "/b/k", "x-id=PutObject&X-Amz-Signature=0", {}, "PutObject"),
        ("GET", "/b", "list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/b", "list-type=1", {}, "ListObjects"),
        ("GET", "/b", "prefix=acl&delimiter=/", {}, "ListObjects"),
        ("POST", "/b/k", "uploads=", {}, "CreateMultipartUpload"),
        ("DELETE", "/b/k", "versionId=null", {}, "DeleteObject"),
    ],
)
def test_what_clients_send_beside_botocore(method, path, query, headers, operation):
    assert parse(method, "localhost", path, query, headers).operation == operation


def test_slashes_of_a_key_are_kept():
    request = parse("PUT", "localhost", "/b//a//b/", "", {})
    assert request == S3Request("PutObject", "b", "/a//b/")
    assert path_style(request) == "/b//a//b/"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_key_comes_back_from_its_path(key):
    request = S3Request("GetObject", "b", key)
    assert parse("GET", "localhost", path_style(request), "", {}) == request


def test_octets_that_are_no_utf_8_come_back_from_the_path():
    request = parse("GET", "localhost", "/b/%FFa", "", {})
    assert path_style(request) == "/b/%FFa"
