"""What a client gets that asks the embedded services for what is not right: AWS's errors, in each protocol's form."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.session import get_session

from daemons import Daemon
from lambdad.domain.neighbour_services import EMBEDDABLE, Protocol

BINARY = b"\xff\x00\xfe"
LONG = "x" * 10_000
FORM = "application/x-www-form-urlencoded"
LIKE_QUERY = (Protocol.QUERY, Protocol.EC2)


def exchange(
    daemon: Daemon, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    connection = HTTPConnection(urlsplit(daemon.url).netloc, timeout=60)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def signed_for(service: str, content_type: str = "") -> dict[str, str]:
    scope = f"Credential=test/20300101/us-east-1/{EMBEDDABLE[service].signing_name}/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
    return {**headers, "Content-Type": content_type} if content_type else headers


def model_of(service: str) -> Any:
    return ServiceModel(get_session().get_component("data_loader").load_service_model(service, "service-2"), service)


def needs_something(operation: Any) -> bool:
    shape = operation.input_shape
    return shape is not None and bool(shape.required_members)


def bad_requests(service: str) -> list[tuple[str, str, bytes | None, dict[str, str]]]:
    """Method, target, body and headers of what no service can answer, to a sample of its operations."""
    known, model = EMBEDDABLE[service], model_of(service)
    names = [name for name in model.operation_names if needs_something(model.operation_model(name))]
    sample = names[:: max(1, len(names) // 6)]
    sent: list[tuple[str, str, bytes | None, dict[str, str]]] = []
    if known.protocol in LIKE_QUERY:
        bodies = [f"Action={name}&Version={known.version}".encode() for name in sample]
        bodies += [BINARY, b"", b"{}", f"Action=NoSuch&Version={known.version}".encode()]
        return [("POST", "/", body, signed_for(service, FORM)) for body in bodies]
    if known.target:
        for name in [*sample, "NoSuch", LONG]:
            headers = {**signed_for(service, "application/x-amz-json-1.1"), "X-Amz-Target": f"{known.target}.{name}"}
            sent += [("POST", "/", body, headers) for body in (b"{", b"[]", BINARY, b"{}")]
        return [*sent, ("POST", "/", b"{}", signed_for(service, "application/x-amz-json-1.1"))]
    for name in sample:
        http = model.operation_model(name).http
        target = http["requestUri"].partition("?")[0].replace("{", "no-").replace("+}", "").replace("}", "")
        if http["method"] in ("PUT", "POST", "PATCH"):
            bodies = [b"{", b"<a", BINARY, b"[]"]
            sent += [(http["method"], target, body, signed_for(service, "application/json")) for body in bodies]
        elif http["method"] != "HEAD":
            sent.append((http["method"], target, None, signed_for(service)))
    return [*sent, ("GET", f"/v2/{LONG}/{LONG}", None, signed_for(service))]


@pytest.mark.parametrize("service", EMBEDDABLE)
def test_what_is_not_right_is_refused(shared_daemon: Daemon, service: str) -> None:
    wrong = []
    for method, target, body, headers in bad_requests(service):
        status, answered, told = exchange(shared_daemon, method, target, body, headers)
        in_xml = EMBEDDABLE[service].protocol in (*LIKE_QUERY, Protocol.REST_XML)
        has_code = b"<Code>" in told if in_xml else b"__type" in told or "x-amzn-ErrorType" in answered
        if status == 500 or (status >= 400 and not has_code):
            wrong.append((method, target[:80], headers.get("X-Amz-Target"), body, status, told[:200]))
    assert not wrong


@pytest.fixture(scope="module")
def s3(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("s3", s3={"addressing_style": "path"})


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket="refusals")
    return "refusals"


def code_of(call: Callable[..., Any], **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_uploads_in_parts(s3: Any, bucket: str) -> None:
    key = {"Bucket": bucket, "Key": "parts"}
    unknown = {**key, "UploadId": "unknown"}
    part = {"ETag": "0" * 32, "PartNumber": 1}
    assert code_of(s3.complete_multipart_upload, **unknown, MultipartUpload={"Parts": [part]}) == ("NoSuchUpload", 404)
    assert code_of(s3.abort_multipart_upload, **unknown) == ("NoSuchUpload", 404)
    assert code_of(s3.upload_part, **unknown, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    upload = {**key, "UploadId": s3.create_multipart_upload(**key)["UploadId"]}
    first, second = (
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=b"x")["ETag"]}
        for number in (1, 2)
    )
    for parts, code in (
        ([second, first], "InvalidPartOrder"),
        ([first, first], "InvalidPartOrder"),
        ([first, second], "EntityTooSmall"),
        ([first, {**second, "PartNumber": 3}], "InvalidPart"),
        ([{**first, "ETag": "0" * 32}], "InvalidPart"),
        ([], "MalformedXML"),
    ):
        assert code_of(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts}) == (code, 400), parts
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [first]})
    assert s3.get_object(**key)["Body"].read() == b"x"


def encoded(checksum: bytes) -> str:
    return base64.b64encode(checksum).decode()


CHECKSUMS = {
    "Content-MD5": hashlib.md5(b"content").digest(),
    "x-amz-checksum-crc32": zlib.crc32(b"content").to_bytes(4, "big"),
    "x-amz-checksum-sha1": hashlib.sha1(b"content").digest(),
    "x-amz-checksum-sha256": hashlib.sha256(b"content").digest(),
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_checksum_that_does_not_match(shared_daemon: Daemon, bucket: str, name: str) -> None:
    target, good = f"/{bucket}/{name}", encoded(CHECKSUMS[name])
    bad = encoded(bytes(len(CHECKSUMS[name])))
    status, _, told = exchange(shared_daemon, "PUT", target, b"content", {name: bad})
    assert (status, b"<Code>BadDigest</Code>" in told) == (400, True), told
    status, _, told = exchange(shared_daemon, "PUT", target, b"content", {name: "none"})
    assert (status, b"<Code>Invalid" in told) == (400, True), told
    assert exchange(shared_daemon, "GET", target)[0] == 404
    assert exchange(shared_daemon, "PUT", target, b"content", {name: good})[0] == 200


def test_a_checksum_behind_the_content(shared_daemon: Daemon, bucket: str) -> None:
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "7",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    good = encoded(CHECKSUMS["x-amz-checksum-crc32"])
    for trailer, code in (
        ("x-amz-checksum-crc32:AAAAAA==\r\n", b"BadDigest"),
        ("", b"MalformedTrailerError"),
        (f"x-amz-checksum-crc32:{good}\r\n", b""),
    ):
        body = f"7\r\ncontent\r\n0\r\n{trailer}\r\n".encode()
        status, _, told = exchange(shared_daemon, "PUT", f"/{bucket}/trailed", body, headers)
        assert (status, code in told) == (400 if code else 200, True), told
    status, _, told = exchange(shared_daemon, "PUT", f"/{bucket}/cut", b"7\r\ncont", headers)
    assert (status, b"IncompleteBody" in told) == (400, True)


def test_what_s3_refuses(s3: Any, bucket: str, shared_daemon: Daemon) -> None:
    assert code_of(s3.put_object, Bucket=bucket, Key="x" * 1025) == ("KeyTooLongError", 400)
    assert code_of(s3.put_bucket_policy, Bucket=bucket, Policy="{") == ("MalformedPolicy", 400)
    assert code_of(s3.list_objects_v2, Bucket=bucket, ContinuationToken="none") == ("InvalidArgument", 400)
    for name in ("Capitals", "192.168.1.1", "two..dots", "under_score"):
        assert code_of(s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400), name
    status, _, told = exchange(shared_daemon, "POST", f"/{bucket}/key", b"", signed_for("s3"))
    assert (status, b"MethodNotAllowed" in told) == (405, True)


@pytest.mark.parametrize(("filename", "key"), [('; filename="a b.txt"', "up/a b.txt"), ("", "up/")])
def test_the_name_of_a_file_in_a_form(s3: Any, shared_daemon: Daemon, bucket: str, filename: str, key: str) -> None:
    fields = (('name="key"', "up/${filename}"), (f'name="file"{filename}', "content"))
    parts = [f"--b\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n" for name, value in fields]
    body = "".join([*parts, "--b--\r\n"]).encode()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert exchange(shared_daemon, "POST", f"/{bucket}", body, headers)[0] == 204
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"content"


def test_expressions_and_tokens(shared_daemon: Daemon, unique: Callable[[str], str]) -> None:
    dynamodb, kinesis = shared_daemon.client("dynamodb"), shared_daemon.client("kinesis")
    table = {"TableName": unique("table")}
    key = {"AttributeName": "p"}
    dynamodb.create_table(
        **table,
        KeySchema=[{**key, "KeyType": "HASH"}],
        AttributeDefinitions=[{**key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    values = {":p": {"S": "a"}}
    query = {"KeyConditionExpression": "p == :p", "ExpressionAttributeValues": values}
    assert code_of(dynamodb.query, **table, **query) == ("ValidationException", 400)
    assert code_of(dynamodb.put_item, **table, Item={"p": {"S": "a"}, "x": {}}) == ("ValidationException", 400)
    assert code_of(dynamodb.execute_statement, Statement="SELEC") == ("ValidationException", 400)
    assert code_of(kinesis.get_records, ShardIterator="none") == ("InvalidArgumentException", 400)


def test_what_is_not_there(shared_daemon: Daemon) -> None:
    nobody = {"restApiId": "nobody", "resourceId": "nobody", "httpMethod": "GET"}
    code, status = code_of(shared_daemon.client("apigateway").delete_integration, **nobody)
    assert (code, status) == ("NotFoundException", 404)
    pool = shared_daemon.client("sesv2").delete_dedicated_ip_pool
    assert code_of(pool, PoolName="nobody") == ("NotFoundException", 404)


def test_an_execution_needs_no_name(shared_daemon: Daemon, unique: Callable[[str], str]) -> None:
    client = shared_daemon.client("stepfunctions")
    role = "arn:aws:iam::000000000000:role/machine"
    assert code_of(client.create_state_machine, name="a", definition="{", roleArn=role) == ("InvalidDefinition", 400)
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    machine = client.create_state_machine(name=unique("machine"), definition=definition, roleArn=role)
    started = {client.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"] for _ in range(3)}
    assert len(started) == 3


ROTATION = """
import boto3

def handler(event, context):
    client, secret, token = boto3.client("secretsmanager"), event["SecretId"], event["ClientRequestToken"]
    if event["Step"] == "createSecret":
        old = client.get_secret_value(SecretId=secret)["SecretString"]
        client.put_secret_value(
            SecretId=secret, ClientRequestToken=token, SecretString=old + "+", VersionStages=["AWSPENDING"]
        )
    if event["Step"] == "finishSecret":
        stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
        current = next(version for version, names in stages.items() if "AWSCURRENT" in names)
        client.update_secret_version_stage(
            SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
        )
"""


def test_a_secret_is_rotated_again_and_again(
    shared_daemon: Daemon, functions: Any, unique: Callable[[str], str]
) -> None:
    function = functions.python(ROTATION, Timeout=60, MemorySize=512)
    arn = functions.client.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    client = shared_daemon.client("secretsmanager")
    name = unique("secret")
    client.create_secret(Name=name, SecretString="a")
    for _ in range(2):
        client.rotate_secret(SecretId=name, RotationLambdaARN=arn, RotationRules={"AutomaticallyAfterDays": 30})
    assert client.get_secret_value(SecretId=name)["SecretString"] == "a++"


def test_links_of_sns_need_no_signature(shared_daemon: Daemon) -> None:
    arn = "arn:aws:sns:us-east-1:000000000000:nobody"
    target = f"/?Action=ConfirmSubscription&TopicArn={arn}&Token=none"
    status, _, told = exchange(shared_daemon, "GET", target)
    assert (status, b"<Code>NotFound</Code>" in told) == (404, True), told
    status, _, told = exchange(shared_daemon, "GET", f"/?Action=Unsubscribe&SubscriptionArn={arn}:none")
    assert b"sns.amazonaws.com" in told
