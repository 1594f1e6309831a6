"""The events of S3, key by key as AWS documents them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

import re
from datetime import UTC, datetime

import pytest

from lambdad.domain import s3_events
from lambdad.domain.s3_events import ObjectEvent, S3Caller, customer_id, event_bridge_event, host_id_of, message
from lambdad.domain.s3_notifications import BucketNotifications

BUCKET = BucketNotifications("amzn-s3-demo-bucket1", "111122223333", "ca-central-1", event_bridge=True)
HOST_ID = "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
CALLER = S3Caller("123456789012", "1.2.3.4", "N4N7GDK58NMKJ12R", HOST_ID)
TIME_S = datetime(2021, 11, 12, 0, 0, 0, 123_456, UTC).timestamp()
ETAG = "b1946ac92492d2347c6235b4d2611184"
VERSION = "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"
SEQUENCER = "0000617F08299329D1"
CREATED = ObjectEvent(
    name="ObjectCreated:Put", key="red flower.jpg", size=5, etag=ETAG, version_id=VERSION, sequencer=SEQUENCER
)


def record(event):
    (found,) = message(BUCKET, event, CALLER, TIME_S, "testConfigRule")["Records"]
    return found


def test_a_record_has_the_keys_of_the_sample():
    assert message(BUCKET, CREATED, CALLER, TIME_S, "testConfigRule") == {
        "Records": [
            {
                "eventVersion": "2.5",
                "eventSource": "aws:s3",
                "awsRegion": "ca-central-1",
                "eventTime": "2021-11-12T00:00:00.123Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:123456789012"},
                "requestParameters": {"sourceIPAddress": "1.2.3.4"},
                "responseElements": {
                    "x-amz-request-id": CALLER.request_id,
                    "x-amz-id-2": CALLER.host_id,
                },
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "testConfigRule",
                    "bucket": {
                        "name": "amzn-s3-demo-bucket1",
                        "ownerIdentity": {"principalId": customer_id("111122223333")},
                        "arn": "arn:aws:s3:::amzn-s3-demo-bucket1",
                    },
                    "object": {
                        "key": "red+flower.jpg",
                        "size": 5,
                        "eTag": ETAG,
                        "versionId": VERSION,
                        "sequencer": SEQUENCER,
                    },
                },
            }
        ]
    }


def test_a_removed_object_has_neither_size_nor_etag():
    found = record(ObjectEvent(name="ObjectRemoved:Delete", key="a", sequencer=SEQUENCER))
    assert found["s3"]["object"] == {"key": "a", "sequencer": SEQUENCER}


def test_a_restored_object_tells_how_long():
    until = datetime(2021, 11, 13, tzinfo=UTC)
    event = ObjectEvent(
        name="ObjectRestore:Completed",
        key="a",
        size=5,
        etag=ETAG,
        sequencer=SEQUENCER,
        storage_class="GLACIER",
        restored_until=until,
    )
    assert record(event)["glacierEventData"] == {
        "restoreEventData": {
            "lifecycleRestorationExpiryTime": "2021-11-13T00:00:00.000Z",
            "lifecycleRestoreStorageClass": "GLACIER",
        }
    }
    assert record(event)["s3"]["object"] == {"key": "a", "size": 5, "eTag": ETAG}
    assert "glacierEventData" not in record(CREATED)


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("red flower.jpg", "red+flower.jpg"),
        ("in/a b/c", "in/a+b/c"),
        ("a+b", "a%2Bb"),
        ("ü", "%C3%BC"),
        ("a&b=c?d%", "a%26b%3Dc%3Fd%25"),
        ("-_.~", "-_.~"),
    ],
)
def test_keys_are_url_encoded(key, encoded):
    assert record(ObjectEvent(name="ObjectCreated:Put", key=key))["s3"]["object"]["key"] == encoded


def envelope(event):
    found = dict(event_bridge_event(BUCKET, event, CALLER, TIME_S))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found.pop("id"))
    return found


def test_event_bridge_gets_what_the_sample_of_a_created_object_has():
    assert envelope(CREATED) == {
        "version": "0",
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
                "key": "red flower.jpg",
                "size": 5,
                "etag": ETAG,
                "version-id": VERSION,
                "sequencer": SEQUENCER,
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }


def test_event_bridge_gets_what_the_sample_of_a_deleted_object_has():
    event = ObjectEvent(
        name="ObjectRemoved:DeleteMarkerCreated",
        key="example-key",
        etag=s3_events.EMPTY_ETAG,
        version_id="1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF",
        sequencer=SEQUENCER,
    )
    found = envelope(event)
    assert found["detail-type"] == "Object Deleted"
    assert found["detail"] == {
        "version": "0",
        "event-version": "1.1",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {
            "key": "example-key",
            "etag": "d41d8cd98f00b204e9800998ecf8427e",
            "version-id": "1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF",
            "sequencer": SEQUENCER,
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "DeleteObject",
        "deletion-type": "Delete Marker Created",
    }


def test_event_bridge_gets_what_the_sample_of_a_restored_object_has():
    event = ObjectEvent(
        name="ObjectRestore:Completed",
        key="example-key",
        size=5,
        etag=ETAG,
        version_id=VERSION,
        sequencer=SEQUENCER,
        storage_class="GLACIER",
        restored_until=datetime(2021, 11, 13, tzinfo=UTC),
    )
    found = envelope(event)
    assert found["detail-type"] == "Object Restore Completed"
    assert found["detail"] == {
        "version": "0",
        "event-version": "1.1",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {"key": "example-key", "size": 5, "etag": ETAG, "version-id": VERSION},
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "s3.amazonaws.com",
        "restore-expiry-time": "2021-11-13T00:00:00Z",
        "source-storage-class": "GLACIER",
    }


@pytest.mark.parametrize(
    ("name", "detail_type", "facts"),
    [
        ("ObjectCreated:Post", "Object Created", {"reason": "POST Object"}),
        ("ObjectCreated:Copy", "Object Created", {"reason": "CopyObject"}),
        ("ObjectCreated:CompleteMultipartUpload", "Object Created", {"reason": "CompleteMultipartUpload"}),
        ("ObjectRemoved:Delete", "Object Deleted", {"reason": "DeleteObject", "deletion-type": "Permanently Deleted"}),
        ("ObjectTagging:Put", "Object Tags Added", {}),
        ("ObjectTagging:Delete", "Object Tags Deleted", {}),
        ("ObjectAcl:Put", "Object ACL Updated", {}),
        ("ObjectRestore:Post", "Object Restore Initiated", {}),
    ],
)
def test_each_event_has_its_type_in_event_bridge(name, detail_type, facts):
    found = envelope(ObjectEvent(name=name, key="a"))
    assert found["detail-type"] == detail_type
    assert {key: found["detail"].get(key) for key in ("reason", "deletion-type")} == {
        "reason": None,
        "deletion-type": None,
    } | facts


def test_the_trial_event_is_to_the_letter():
    assert s3_events.trial_event("photos", TIME_S, "R", "H") == {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2021-11-12T00:00:00.123Z",
        "Bucket": "photos",
        "RequestId": "R",
        "HostId": "H",
    }


def test_ids_look_like_those_of_s3():
    assert re.fullmatch(r"[0-9A-F]{16}", s3_events.request_id_of("1-2-3"))
    assert re.fullmatch(r"[0-9A-Za-z+/]{75}=", host_id_of("1-2-3"))
    assert re.fullmatch(r"A[A-Z2-7]{13}", customer_id("111122223333"))
    assert customer_id("111122223333") != customer_id("111122223334")
