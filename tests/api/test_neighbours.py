"""The other services at the daemon's one endpoint: embedded, loaded when they are first asked, or elsewhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daemons import Daemon
from faults.processes import resident_bytes
from lambdad.domain.neighbour_services import EMBEDDABLE, SERVICES
from neighbours import MotoServer

BIG = 200 * 1024 * 1024
MEGABYTE = 1024 * 1024
HELD = 64 * MEGABYTE
"""How much more the daemon may hold while something big passes: buffers, and what Python keeps for later."""


@pytest.fixture(scope="session")
def s3(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("s3", s3={"addressing_style": "path"})


@pytest.fixture
def bucket(s3: Any, unique: Callable[[str], str]) -> str:
    name = unique("bucket")
    s3.create_bucket(Bucket=name)
    return name


def exchange(
    daemon: Daemon, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """What a client answers that is none of AWS's."""
    connection = HTTPConnection(urlsplit(daemon.url).netloc, timeout=60)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


SIMPLE_CALLS = {
    "apigateway": "get_rest_apis",
    "apigatewayv2": "get_apis",
    "cloudformation": "list_stacks",
    "cloudtrail": "list_trails",
    "codecommit": ("create_repository", {"repositoryName": "a"}),
    "cognito-identity": ("list_identity_pools", {"MaxResults": 1}),
    "cognito-idp": ("list_user_pools", {"MaxResults": 1}),
    "dynamodb": "list_tables",
    "dynamodbstreams": "list_streams",
    "ec2": "describe_vpcs",
    "ecr": "describe_repositories",
    "efs": "describe_file_systems",
    "elb": "describe_load_balancers",
    "elbv2": "describe_load_balancers",
    "firehose": "list_delivery_streams",
    "iam": "list_users",
    "iot": "list_things",
    "iot-data": ("publish", {"topic": "a", "payload": b"b"}),
    "kinesis": "list_streams",
    "kms": "list_keys",
    "resourcegroupstaggingapi": "get_resources",
    "s3": "list_buckets",
    "secretsmanager": "list_secrets",
    "ses": "list_identities",
    "sesv2": "list_contact_lists",
    "sns": "list_topics",
    "sqs": "list_queues",
    "ssm": "describe_parameters",
    "stepfunctions": "list_state_machines",
    "sts": "get_caller_identity",
}


@pytest.mark.parametrize("service", EMBEDDABLE)
def test_every_service_answers_at_the_one_endpoint(shared_daemon: Daemon, service: str) -> None:
    call = SIMPLE_CALLS[service]
    method, parameters = (call, {}) if isinstance(call, str) else call
    answer = getattr(shared_daemon.client(service), method)(**parameters)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_an_object_goes_and_comes_back(shared_daemon: Daemon, s3: Any, bucket: str) -> None:
    key = "a b/ü+%"
    s3.put_object(Bucket=bucket, Key=key, Body=b"content", ContentType="text/plain", Metadata={"a": "b"})
    answer = s3.get_object(Bucket=bucket, Key=key)
    assert (answer["Body"].read(), answer["ContentType"], answer["Metadata"]) == (b"content", "text/plain", {"a": "b"})
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 7
    assert s3.get_object(Bucket=bucket, Key=key, Range="bytes=2-3")["Body"].read() == b"nt"
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert s3.delete_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_an_unchanged_object_is_not_sent_again(s3: Any, shared_daemon: Daemon, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"content", ACL="public-read")["ETag"]
    status, headers, body = exchange(shared_daemon, "GET", f"/{bucket}/k", headers={"If-None-Match": etag})
    assert (status, body) == (304, b"")
    assert headers.get("content-length") != "0"


@pytest.mark.parametrize("signature", ["s3v4", "s3"])
def test_presigned_urls(shared_daemon: Daemon, bucket: str, signature: str) -> None:
    client = shared_daemon.client("s3", s3={"addressing_style": "path"}, signature_version=signature)
    put = client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "k"})
    with urllib.request.urlopen(urllib.request.Request(put, b"content", method="PUT")) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})) as answer:
        assert answer.read() == b"content"


def test_a_bucket_in_the_hosts_name(shared_daemon: Daemon, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/k", Body=b"content", ACL="public-read")
    for host in (f"{bucket}.s3.localhost:4566", f"{bucket}.s3.us-east-1.amazonaws.com", f"{bucket}.localhost"):
        assert exchange(shared_daemon, "GET", "/a/k", headers={"Host": host})[::2] == (200, b"content"), host


def test_a_browser_asks_before_it_sends(shared_daemon: Daemon, s3: Any, bucket: str) -> None:
    rule = {"AllowedMethods": ["PUT"], "AllowedOrigins": ["http://page"], "AllowedHeaders": ["*"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    headers = {"Origin": "http://page", "Access-Control-Request-Method": "PUT"}
    status, answered, _ = exchange(shared_daemon, "OPTIONS", f"/{bucket}/k", headers=headers)
    assert (status, answered["access-control-allow-origin"]) == (200, "http://page")


def test_what_nobody_answers(shared_daemon: Daemon) -> None:
    status, _, body = exchange(shared_daemon, "GET", "/")
    assert (status, json.loads(body)["__type"]) == (404, "UnknownOperationException")


def big_parts() -> Iterator[bytes]:
    for _ in range(BIG // MEGABYTE):
        yield b"x" * MEGABYTE


def test_something_big_passes_and_is_not_held(daemon: Daemon) -> None:
    assert daemon.process is not None
    client = daemon.client("s3", s3={"addressing_style": "path"})
    client.create_bucket(Bucket="big")
    before = resident_bytes(daemon.process.pid)
    assert exchange(daemon, "PUT", "/big/k", big_parts(), {"Content-Length": str(BIG)})[0] == 200
    after_upload = resident_bytes(daemon.process.pid)
    body = client.get_object(Bucket="big", Key="k")["Body"]
    assert len(body.read(MEGABYTE)) == MEGABYTE  # the rest waits for a reader
    assert resident_bytes(daemon.process.pid) < before + HELD
    assert sum(len(part) for part in body.iter_chunks(MEGABYTE)) == BIG - MEGABYTE
    assert after_upload < before + HELD


def test_an_upload_that_breaks_off_leaves_nothing(shared_daemon: Daemon, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    with socket.create_connection((urlsplit(shared_daemon.url).hostname, urlsplit(shared_daemon.url).port)) as client:
        client.sendall(f"PUT /{bucket}/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
        client.sendall(b"x" * 500_000)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"before"


def test_the_aws_cli_copies_files(shared_daemon: Daemon, bucket: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000  # in more than one part
    (tmp_path / "file").write_bytes(content)
    for command in (("cp", "file", f"s3://{bucket}/a/file"), ("cp", f"s3://{bucket}/a/file", "back")):
        done = subprocess.run(
            ["aws", "s3", *command], env=shared_daemon.cli_environ(), cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == content


def test_a_function_uses_them(shared_daemon: Daemon, functions: Any, s3: Any, bucket: str) -> None:
    source = """
import boto3

def handler(event, context):
    s3 = boto3.client("s3")
    s3.put_object(Bucket=event["bucket"], Key="made", Body=b"by a function")
    return boto3.client("sts").get_caller_identity()["Account"]
"""
    name = functions.python(source, Timeout=60, MemorySize=512)
    assert functions.invoke(name, {"bucket": bucket}).payload == "000000000000"
    assert s3.get_object(Bucket=bucket, Key="made")["Body"].read() == b"by a function"


def test_a_destination_is_looked_for_there(shared_daemon: Daemon, functions: Any, unique: Any) -> None:
    name = functions.python("def handler(event, context):\n    return event\n")
    queue = unique("queue")
    arn = f"arn:aws:sqs:us-east-1:000000000000:{queue}"
    config = {"DestinationConfig": {"OnFailure": {"Destination": arn}}}
    client = functions.client
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        client.put_function_event_invoke_config(FunctionName=name, **config)
    shared_daemon.client("sqs").create_queue(QueueName=queue)
    client.put_function_event_invoke_config(FunctionName=name, **config)


def test_a_queue_is_polled(shared_daemon: Daemon, unique: Any, background: Any) -> None:
    sqs = shared_daemon.client("sqs")
    url = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    polls = [background.start(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20) for _ in range(3)]
    for number in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    bodies = [message["Body"] for poll in polls for message in poll.result(30).get("Messages", [])]
    assert sorted(bodies) == ["0", "1", "2"]


def test_how_they_are(shared_daemon: Daemon, s3: Any, bucket: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lambdad", "status"], env=shared_daemon.cli_environ(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split("\t")[0]: line.split("\t") for line in done.stdout.splitlines()}
    assert rows.keys() == EMBEDDABLE.keys()
    assert rows["s3"][1] == "embedded"
    assert rows["s3"][2] in ("loaded", "to be saved")


def test_a_real_endpoint_instead(moto: MotoServer, daemon_with_neighbours: Daemon, unique: Any) -> None:
    name = unique("bucket")
    client = daemon_with_neighbours.client("s3", s3={"addressing_style": "path"})
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="a b/ü", Body=b"content")
    assert moto.client("s3").get_object(Bucket=name, Key="a b/ü")["Body"].read() == b"content"
    presigned = client.generate_presigned_url("get_object", {"Bucket": name, "Key": "a b/ü"})
    with urllib.request.urlopen(presigned) as answer:
        assert answer.read() == b"content"
    client.upload_file(__file__, name, "file")
    assert moto.client("s3").get_object(Bucket=name, Key="file")["Body"].read() == Path(__file__).read_bytes()
    bus = unique("bus")
    daemon_with_neighbours.client("events").create_event_bus(Name=bus)
    assert moto.client("events").describe_event_bus(Name=bus)["Name"] == bus


def test_nothing_is_kept_of_what_is_ephemeral(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", ("--ephemeral",))
    neighbours = tmp_path / "data" / "neighbours"
    with daemon:
        daemon.client("sqs").create_queue(QueueName="queue")
        assert not (neighbours / "state").exists()
        s3 = daemon.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="key", Body=b"x" * 1024 * 1024)
        assert [each for each in neighbours.rglob("lambdad-objects-*/*") if each.is_file()]
    assert not (neighbours / "temporary").exists()
    with daemon:
        assert "QueueUrls" not in daemon.client("sqs").list_queues()


def test_services_of_others_are_declared() -> None:
    assert {"cloudwatch", "events", "lambda", "logs", "scheduler"} == SERVICES.keys() - EMBEDDABLE.keys()
