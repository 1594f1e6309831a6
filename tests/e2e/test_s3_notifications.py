"""Buckets that tell of their objects: to queues, topics, functions and EventBridge, by the real daemon with boto3."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon, create_python
from neighbours import Queue
from queued_events import await_lines

ACCOUNT = "000000000000"
BOUNDARY = "the-end-of-a-part"
PRINTS = """
import json


def handler(event, context):
    print("Event: " + json.dumps(event))
"""


class Bucket:
    """A bucket of the shared daemon that tells a queue of everything."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.name = name
        self.s3 = daemon.client("s3")
        self.s3.create_bucket(Bucket=name)
        self.queue = Queue(daemon.client("sqs"), name)

    def tell(self, *events: str, **rules: str) -> None:
        """Have the queue told of events, and await the trial."""
        configuration: dict[str, Any] = {"QueueArn": self.queue.arn, "Events": list(events), "Id": "told"}
        if rules:
            listed = [{"Name": name, "Value": value} for name, value in rules.items()]
            configuration["Filter"] = {"Key": {"FilterRules": listed}}
        self.put({"QueueConfigurations": [configuration]})
        (trial,) = self.queue.bodies(1)
        assert (trial["Service"], trial["Event"], trial["Bucket"]) == ("Amazon S3", "s3:TestEvent", self.name)

    def put(self, configuration: dict[str, Any]) -> None:
        self.s3.put_bucket_notification_configuration(Bucket=self.name, NotificationConfiguration=configuration)

    def told(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """So many events: their names and objects, in the order of their sequencers."""
        records = [record for body in self.queue.bodies(count) for record in body["Records"]]
        assert {record["s3"]["configurationId"] for record in records} == {"told"}
        records.sort(key=lambda record: record["s3"]["object"].get("sequencer", ""))
        return [(record["eventName"], record["s3"]["object"]) for record in records]


@pytest.fixture
def bucket(shared_daemon: Daemon, unique: Callable[[str], str]) -> Bucket:
    return Bucket(shared_daemon, unique("bucket"))


def test_what_creates_objects(bucket: Bucket) -> None:
    bucket.tell("s3:ObjectCreated:*")
    s3, name = bucket.s3, bucket.name
    etag = s3.put_object(Bucket=name, Key="in/red flower+ü.jpg", Body=b"hello")["ETag"].strip('"')
    s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "in/red flower+ü.jpg"})
    upload = s3.create_multipart_upload(Bucket=name, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=name, Key="parts", UploadId=upload, PartNumber=1, Body=b"12345678")["ETag"]
    parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
    whole = s3.complete_multipart_upload(Bucket=name, Key="parts", UploadId=upload, MultipartUpload=parts)["ETag"]
    post(s3.generate_presigned_post(name, "form"), b"from a form")
    form = s3.head_object(Bucket=name, Key="form")["ETag"].strip('"')

    told = bucket.told(4)
    for _, found in told:
        assert found.pop("sequencer")
    assert told == [
        ("ObjectCreated:Put", {"key": "in/red+flower%2B%C3%BC.jpg", "size": 5, "eTag": etag}),
        ("ObjectCreated:Copy", {"key": "copy", "size": 5, "eTag": etag}),
        ("ObjectCreated:CompleteMultipartUpload", {"key": "parts", "size": 8, "eTag": whole.strip('"')}),
        ("ObjectCreated:Post", {"key": "form", "size": 11, "eTag": form}),
    ]


def post(form: dict[str, Any], content: bytes) -> None:
    """Send a form as a browser does."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in form["fields"].items()]
    file = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + content
    start = f"--{BOUNDARY}\r\n".encode()
    body = b"".join(start + part + b"\r\n" for part in (*(part.encode() for part in parts), file))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    request = urllib.request.Request(form["url"], body + f"--{BOUNDARY}--\r\n".encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        assert answer.status == 204


def test_what_removes_objects(bucket: Bucket) -> None:
    bucket.tell("s3:ObjectRemoved:*", prefix="in/")
    s3, name = bucket.s3, bucket.name
    for key in ("in/a", "in/b c", "in/d", "out/e"):
        s3.put_object(Bucket=name, Key=key)
    s3.delete_object(Bucket=name, Key="in/a")
    s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "in/b c"}, {"Key": "out/e"}], "Quiet": True})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=name, Key="in/d")["VersionId"]
    marker = s3.delete_object(Bucket=name, Key="in/d")["VersionId"]
    s3.delete_object(Bucket=name, Key="in/d", VersionId=version)

    told = bucket.told(4)
    for _, found in told:
        assert found.pop("sequencer")
    assert told == [
        ("ObjectRemoved:Delete", {"key": "in/a"}),
        ("ObjectRemoved:Delete", {"key": "in/b+c"}),
        (
            "ObjectRemoved:DeleteMarkerCreated",
            {"key": "in/d", "eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": marker},
        ),
        ("ObjectRemoved:Delete", {"key": "in/d", "versionId": version}),
    ]


def test_tags_acls_and_restores(bucket: Bucket) -> None:
    bucket.tell("s3:ObjectTagging:*", "s3:ObjectAcl:Put", "s3:ObjectRestore:*")
    s3, name = bucket.s3, bucket.name
    etag = s3.put_object(Bucket=name, Key="a", Body=b"hello", StorageClass="GLACIER")["ETag"].strip('"')
    s3.put_object_tagging(Bucket=name, Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert bucket.told(1) == [("ObjectTagging:Put", {"key": "a", "eTag": etag})]
    s3.delete_object_tagging(Bucket=name, Key="a")
    assert bucket.told(1) == [("ObjectTagging:Delete", {"key": "a", "eTag": etag})]
    s3.put_object_acl(Bucket=name, Key="a", ACL="public-read")
    assert bucket.told(1) == [("ObjectAcl:Put", {"key": "a", "eTag": etag})]
    s3.restore_object(Bucket=name, Key="a", RestoreRequest={"Days": 1})
    # Restores have no sequencer, and a queue no order.
    assert {event for event, _ in bucket.told(2)} == {"ObjectRestore:Post", "ObjectRestore:Completed"}


def test_failed_requests_tell_nothing(bucket: Bucket) -> None:
    bucket.tell("s3:ObjectCreated:*", "s3:ObjectTagging:*")
    s3, name = bucket.s3, bucket.name
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.copy_object(Bucket=name, Key="b", CopySource={"Bucket": name, "Key": "gone"})
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.put_object_tagging(Bucket=name, Key="gone", Tagging={"TagSet": []})
    s3.put_object(Bucket=name, Key="after")
    ((_, found),) = bucket.told(1)
    assert found["key"] == "after"


def test_a_configuration_is_got_as_it_was_put(bucket: Bucket) -> None:
    bucket.tell("s3:ObjectCreated:Put", prefix="in/", suffix=".jpg")
    answer = bucket.s3.get_bucket_notification_configuration(Bucket=bucket.name)
    answer.pop("ResponseMetadata")
    rules = [{"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".jpg"}]
    assert answer == {
        "QueueConfigurations": [
            {
                "Id": "told",
                "QueueArn": bucket.queue.arn,
                "Events": ["s3:ObjectCreated:Put"],
                "Filter": {"Key": {"FilterRules": rules}},
            }
        ]
    }
    bucket.put({})
    answer = bucket.s3.get_bucket_notification_configuration(Bucket=bucket.name)
    assert set(answer) == {"ResponseMetadata"}


def test_errors_reach_the_client(bucket: Bucket) -> None:
    created, gone = ["s3:ObjectCreated:*"], f"{bucket.queue.arn}-gone"
    for configuration, message in (
        ({"QueueArn": gone, "Events": created}, "Unable to validate the following destination configurations"),
        ({"QueueArn": bucket.queue.arn, "Events": ["s3:Nothing"]}, "The event is not supported for notifications"),
    ):
        with pytest.raises(ClientError, match=message) as refusal:
            bucket.put({"QueueConfigurations": [configuration]})
        assert refusal.value.response["Error"]["Code"] == "InvalidArgument"
    with pytest.raises(ClientError) as refusal:
        bucket.s3.get_bucket_notification_configuration(Bucket=f"{bucket.name}-gone")
    assert refusal.value.response["Error"]["Code"] == "NoSuchBucket"


def test_a_function_is_started_when_its_policy_lets_s3_in(shared_daemon: Daemon, bucket: Bucket) -> None:
    aws_lambda = shared_daemon.client("lambda")
    created = create_python(aws_lambda, bucket.name, PRINTS)
    configuration = {
        "LambdaFunctionConfigurations": [
            {"LambdaFunctionArn": created["FunctionArn"], "Events": ["s3:ObjectCreated:*"], "Id": "told"}
        ]
    }
    with pytest.raises(ClientError, match="Unable to validate the following destination configurations"):
        bucket.put(configuration)
    aws_lambda.add_permission(
        FunctionName=bucket.name,
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{bucket.name}",
        SourceAccount=ACCOUNT,
    )
    bucket.put(configuration)
    bucket.s3.put_object(Bucket=bucket.name, Key="a", Body=b"hello")
    (line,) = await_lines(shared_daemon, bucket.name, "Event: ", 1)
    (record,) = json.loads(line.removeprefix("Event: "))["Records"]
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert record["s3"]["bucket"]["name"] == bucket.name


def test_a_topic_is_told(shared_daemon: Daemon, bucket: Bucket) -> None:
    sns = shared_daemon.client("sns")
    topic = sns.create_topic(Name=bucket.name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=bucket.queue.arn)
    bucket.put({"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]})
    (trial,) = bucket.queue.bodies(1)
    assert json.loads(trial["Message"])["Event"] == "s3:TestEvent"
    bucket.s3.put_object(Bucket=bucket.name, Key="a", Body=b"hello")
    (notification,) = bucket.queue.bodies(1)
    assert (notification["TopicArn"], notification["Subject"]) == (topic, "Amazon S3 Notification")
    (record,) = json.loads(notification["Message"])["Records"]
    assert record["s3"]["object"]["key"] == "a"


def test_event_bridge_is_told(shared_daemon: Daemon, bucket: Bucket) -> None:
    events = shared_daemon.client("events")
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket.name]}}}
    events.put_rule(Name=bucket.name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=bucket.name, Targets=[{"Id": "queue", "Arn": bucket.queue.arn}])
    bucket.put({"EventBridgeConfiguration": {}})
    bucket.s3.put_object(Bucket=bucket.name, Key="a b", Body=b"hello")
    (event,) = bucket.queue.bodies(1)
    assert (event["detail-type"], event["account"]) == ("Object Created", ACCOUNT)
    assert event["resources"] == [f"arn:aws:s3:::{bucket.name}"]
    assert event["detail"]["reason"] == "PutObject"
    assert (event["detail"]["object"]["key"], event["detail"]["object"]["size"]) == ("a b", 5)


def test_configurations_outlive_the_daemon(daemon: Daemon) -> None:
    bucket = Bucket(daemon, "photos")
    bucket.tell("s3:ObjectCreated:*")
    daemon.stop()
    daemon.start()
    daemon.client("s3").put_object(Bucket="photos", Key="a")
    queue = Queue(daemon.client("sqs"), "photos")
    (body,) = queue.bodies(1)
    assert body["Records"][0]["s3"]["object"]["key"] == "a"


def test_a_deleted_bucket_leaves_its_namesake_nothing(shared_daemon: Daemon, bucket: Bucket) -> None:
    bucket.tell("s3:ObjectCreated:*")
    bucket.s3.delete_bucket(Bucket=bucket.name)
    bucket.s3.create_bucket(Bucket=bucket.name)
    assert set(bucket.s3.get_bucket_notification_configuration(Bucket=bucket.name)) == {"ResponseMetadata"}
