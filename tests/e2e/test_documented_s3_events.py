"""The events of S3, key by key, as AWS documents them: to functions and queues, and through EventBridge."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from daemons import Daemon
from documented_events import (
    ACCOUNT,
    CUSTOMER,
    HOST_ID,
    IP_ADDRESS,
    MD5,
    MILLISECONDS,
    PRINCIPAL,
    REGION,
    REQUEST_ID,
    SECONDS,
    SEQUENCER,
    UUID,
    VERSION_ID,
    Source,
    assert_like,
)

CONTENT = b"x" * 1024


@pytest.fixture
def source(shared_daemon: Daemon, unique: Callable[[str], str]) -> Source:
    return Source(shared_daemon, unique("sample"))


# S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
# The version is that of the page's first example, which all types have now.

S3_TRIAL = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "amzn-s3-demo-bucket",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}
S3_PUT: dict[str, Any] = {
    "Records": [
        {
            "eventVersion": "2.5",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "172.16.0.1"},
            "responseElements": {
                "x-amz-request-id": "C3D13FE58DE4C810",
                "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {
                    "name": "amzn-s3-demo-bucket",
                    "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                    "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
                },
                "object": {
                    "key": "HappyFace.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}
S3_RESTORED = {
    "restoreEventData": {
        "lifecycleRestorationExpiryTime": "1970-01-01T00:00:00.000Z",
        "lifecycleRestoreStorageClass": "GLACIER",
    }
}


def s3_varying(name: str, **more: Any) -> dict[str, Any]:
    return {
        **more,
        "awsRegion": REGION,
        "eventTime": MILLISECONDS,
        "userIdentity.principalId": PRINCIPAL,
        "sourceIPAddress": IP_ADDRESS,
        "x-amz-request-id": REQUEST_ID,
        "x-amz-id-2": HOST_ID,
        "bucket.name": name,
        "ownerIdentity.principalId": CUSTOMER,
        "bucket.arn": f"arn:aws:s3:::{name}",
        "sequencer": SEQUENCER,
    }


def s3_sample(name: str, *without: str) -> dict[str, Any]:
    """The documented event under another name, without what events of its kind do not have of an object."""
    sample: dict[str, Any] = json.loads(json.dumps(S3_PUT))
    (record,) = sample["Records"]
    record["eventName"] = name
    for key in without:
        del record["s3"]["object"][key]
    return sample


def test_the_trial_of_s3(source: Source) -> None:
    source.make_bucket()
    trial = source.tell_queue("s3:ObjectCreated:*")
    varying = {"Time": MILLISECONDS, "Bucket": source.name, "RequestId": REQUEST_ID, "HostId": HOST_ID}
    assert_like(trial, S3_TRIAL, varying)


def test_an_upload_to_a_function(source: Source) -> None:
    s3 = source.make_bucket()
    source.make_function("s3")
    configuration = {
        "Id": "testConfigRule",
        "LambdaFunctionArn": source.function_arn,
        "Events": ["s3:ObjectCreated:*"],
    }
    s3.put_bucket_notification_configuration(
        Bucket=source.name, NotificationConfiguration={"LambdaFunctionConfigurations": [configuration]}
    )
    put = s3.put_object(Bucket=source.name, Key="HappyFace.jpg", Body=CONTENT)
    event = source.got()
    varying = s3_varying(source.name, eTag=MD5, versionId=VERSION_ID)
    assert_like(event, S3_PUT, varying)
    found = event["Records"][0]
    assert (found["s3"]["object"]["eTag"], found["s3"]["object"]["versionId"]) == (
        put["ETag"].strip('"'),
        put["VersionId"],
    )
    headers = put["ResponseMetadata"]["HTTPHeaders"]
    assert found["responseElements"]["x-amz-request-id"] == headers["x-amz-request-id"]


def test_copies_and_parts(source: Source) -> None:
    s3, name = source.make_bucket(), source.name
    s3.put_object(Bucket=name, Key="HappyFace.jpg", Body=CONTENT)
    source.tell_queue("s3:ObjectCreated:*")
    s3.copy_object(Bucket=name, Key="Copy.jpg", CopySource={"Bucket": name, "Key": "HappyFace.jpg"})
    (event,) = source.queue.bodies(1)
    varying = s3_varying(name, key="Copy.jpg", eTag=MD5, versionId=VERSION_ID)
    assert_like(event, s3_sample("ObjectCreated:Copy"), varying)

    upload = s3.create_multipart_upload(Bucket=name, Key="Parts.jpg")["UploadId"]
    part = s3.upload_part(Bucket=name, Key="Parts.jpg", UploadId=upload, PartNumber=1, Body=CONTENT)["ETag"]
    parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
    whole = s3.complete_multipart_upload(Bucket=name, Key="Parts.jpg", UploadId=upload, MultipartUpload=parts)
    (event,) = source.queue.bodies(1)
    etag = whole["ETag"].strip('"')
    assert re.fullmatch(r"[0-9a-f]{32}-1", etag)
    varying = s3_varying(name, key="Parts.jpg", eTag=etag, versionId=VERSION_ID)
    assert_like(event, s3_sample("ObjectCreated:CompleteMultipartUpload"), varying)


def test_deletions(source: Source) -> None:
    s3, name = source.make_bucket(), source.name
    version = s3.put_object(Bucket=name, Key="HappyFace.jpg", Body=CONTENT)["VersionId"]
    source.tell_queue("s3:ObjectRemoved:*")
    marker = s3.delete_object(Bucket=name, Key="HappyFace.jpg")["VersionId"]
    (event,) = source.queue.bodies(1)
    # A marker is empty, and so is the sample's object, by its eTag.
    sample = s3_sample("ObjectRemoved:DeleteMarkerCreated", "size")
    assert_like(event, sample, s3_varying(name, versionId=marker))
    s3.delete_object(Bucket=name, Key="HappyFace.jpg", VersionId=version)
    (event,) = source.queue.bodies(1)
    assert_like(event, s3_sample("ObjectRemoved:Delete", "size", "eTag"), s3_varying(name, versionId=version))


def test_a_deletion_without_versions(source: Source) -> None:
    s3, name = source.make_bucket(versioned=False), source.name
    s3.put_object(Bucket=name, Key="HappyFace.jpg", Body=CONTENT)
    source.tell_queue("s3:ObjectRemoved:*")
    s3.delete_object(Bucket=name, Key="HappyFace.jpg")
    (event,) = source.queue.bodies(1)
    assert_like(event, s3_sample("ObjectRemoved:Delete", "size", "eTag", "versionId"), s3_varying(name))


def test_tags_and_restores(source: Source) -> None:
    """The sequencer is "only used with PUTs and DELETEs"; glacierEventData only with ObjectRestore:Completed."""
    s3, name = source.make_bucket(), source.name
    put = s3.put_object(Bucket=name, Key="HappyFace.jpg", Body=CONTENT, StorageClass="GLACIER")
    source.tell_queue("s3:ObjectTagging:*", "s3:ObjectRestore:*")
    of = {"Key": "HappyFace.jpg"}  # and so of its newest version, which the events name
    varying = s3_varying(name, eTag=put["ETag"].strip('"'), versionId=put["VersionId"])
    s3.put_object_tagging(Bucket=name, **of, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    (event,) = source.queue.bodies(1)
    assert_like(event, s3_sample("ObjectTagging:Put", "size", "sequencer"), varying)
    s3.delete_object_tagging(Bucket=name, **of, VersionId=put["VersionId"])
    (event,) = source.queue.bodies(1)
    assert_like(event, s3_sample("ObjectTagging:Delete", "size", "sequencer"), varying)

    s3.restore_object(Bucket=name, **of, RestoreRequest={"Days": 1})
    events = {event["Records"][0]["eventName"]: event for event in source.queue.bodies(2)}
    assert_like(events["ObjectRestore:Post"], s3_sample("ObjectRestore:Post", "sequencer"), varying)
    sample = s3_sample("ObjectRestore:Completed", "sequencer")
    sample["Records"][0]["glacierEventData"] = S3_RESTORED
    completed = events["ObjectRestore:Completed"]
    assert_like(completed, sample, {**varying, "lifecycleRestorationExpiryTime": MILLISECONDS})


# S3 by EventBridge: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html

S3_OBJECT_CREATED: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail": {
        "version": "0",
        "event-version": "1.1",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {
            "key": "example-key",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "617f08299329d189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}


def event_bridge_sample(detail_type: str, without: tuple[str, ...], **detail: Any) -> dict[str, Any]:
    """The documented event of another type: without what its object or detail does not have, and with other facts."""
    sample: dict[str, Any] = json.loads(json.dumps(S3_OBJECT_CREATED))
    sample["detail-type"] = detail_type
    for key in without:
        del (sample["detail"] if key in sample["detail"] else sample["detail"]["object"])[key]
    sample["detail"] |= {name.replace("_", "-"): value for name, value in detail.items()}
    return sample


def test_s3_by_event_bridge(source: Source) -> None:
    s3, name = source.make_bucket(), source.name
    source.tell_event_bridge()
    varying = {
        "id": UUID,
        "account": ACCOUNT,
        "time": SECONDS,
        "region": REGION,
        "resources": [f"arn:aws:s3:::{name}"],
        "bucket.name": name,
        "version-id": VERSION_ID,
        "sequencer": SEQUENCER,
        "request-id": REQUEST_ID,
        "requester": ACCOUNT,
        "source-ip-address": IP_ADDRESS,
    }
    s3.put_object(Bucket=name, Key="example-key", Body=b"hello\n"[:5], StorageClass="GLACIER")
    (event,) = source.queue.bodies(1)
    assert_like(event, S3_OBJECT_CREATED, {**varying, "etag": MD5})
    etag = event["detail"]["object"]["etag"]
    of = {"Key": "example-key"}
    varying["version-id"] = event["detail"]["object"]["version-id"]

    tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
    s3.put_object_tagging(Bucket=name, **of, Tagging=tags)
    (event,) = source.queue.bodies(1)
    changed = "size", "sequencer", "reason"
    assert_like(event, event_bridge_sample("Object Tags Added", changed), {**varying, "etag": etag})
    s3.delete_object_tagging(Bucket=name, **of)
    (event,) = source.queue.bodies(1)
    assert_like(event, event_bridge_sample("Object Tags Deleted", changed), {**varying, "etag": etag})
    s3.put_object_acl(Bucket=name, **of, ACL="public-read")
    (event,) = source.queue.bodies(1)
    assert_like(event, event_bridge_sample("Object ACL Updated", changed), {**varying, "etag": etag})

    s3.restore_object(Bucket=name, **of, RestoreRequest={"Days": 1})
    events = {event["detail-type"]: event for event in source.queue.bodies(2)}
    initiated = event_bridge_sample("Object Restore Initiated", ("sequencer", "reason"), source_storage_class="GLACIER")
    assert_like(events["Object Restore Initiated"], initiated, {**varying, "etag": etag})
    completed = event_bridge_sample(
        "Object Restore Completed",
        ("sequencer", "reason", "source-ip-address"),
        requester="s3.amazonaws.com",
        restore_expiry_time="2021-11-13T00:00:00Z",
        source_storage_class="GLACIER",
    )
    of_s3 = {**varying, "etag": etag, "requester": "s3.amazonaws.com", "restore-expiry-time": SECONDS}
    assert_like(events["Object Restore Completed"], completed, of_s3)

    s3.delete_object(Bucket=name, Key="example-key")
    (event,) = source.queue.bodies(1)
    deleted = event_bridge_sample("Object Deleted", ("size",), deletion_type="Delete Marker Created")
    deleted["detail"]["reason"] = "DeleteObject"
    assert_like(event, deleted, {**varying, "version-id": VERSION_ID, "etag": "d41d8cd98f00b204e9800998ecf8427e"})
