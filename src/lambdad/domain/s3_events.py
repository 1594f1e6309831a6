"""The events of S3, as functions, queues and topics get them, and as EventBridge does.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (version 2.5, one for all
types) and https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html (version 1.1). The tags that AWS's own
services put on buckets (awsGeneratedTags) do not exist here.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote_plus

from lambdad.domain.s3_notifications import BucketNotifications

EVENT_VERSION: Final = "2.5"
EVENT_BRIDGE_VERSION: Final = "1.1"
TOPIC_SUBJECT: Final = "Amazon S3 Notification"
"""The Subject of what S3 publishes to a topic."""
EMPTY_ETAG: Final = "d41d8cd98f00b204e9800998ecf8427e"
"""What events give as the ETag of a delete marker: that of no content."""

CREATED_PUT: Final = "ObjectCreated:Put"
CREATED_POST: Final = "ObjectCreated:Post"
CREATED_COPY: Final = "ObjectCreated:Copy"
CREATED_MULTIPART: Final = "ObjectCreated:CompleteMultipartUpload"
REMOVED: Final = "ObjectRemoved:Delete"
MARKER_CREATED: Final = "ObjectRemoved:DeleteMarkerCreated"
TAGS_PUT: Final = "ObjectTagging:Put"
TAGS_DELETED: Final = "ObjectTagging:Delete"
ACL_PUT: Final = "ObjectAcl:Put"
RESTORE_BEGUN: Final = "ObjectRestore:Post"
RESTORED: Final = "ObjectRestore:Completed"

# The type of each event in EventBridge, with what its detail says beside the object.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-mapping-troubleshooting.html
_EVENT_BRIDGE: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    CREATED_PUT: ("Object Created", {"reason": "PutObject"}),
    CREATED_POST: ("Object Created", {"reason": "POST Object"}),
    CREATED_COPY: ("Object Created", {"reason": "CopyObject"}),
    CREATED_MULTIPART: ("Object Created", {"reason": "CompleteMultipartUpload"}),
    REMOVED: ("Object Deleted", {"reason": "DeleteObject", "deletion-type": "Permanently Deleted"}),
    MARKER_CREATED: ("Object Deleted", {"reason": "DeleteObject", "deletion-type": "Delete Marker Created"}),
    TAGS_PUT: ("Object Tags Added", {}),
    TAGS_DELETED: ("Object Tags Deleted", {}),
    ACL_PUT: ("Object ACL Updated", {}),
    RESTORE_BEGUN: ("Object Restore Initiated", {}),
    RESTORED: ("Object Restore Completed", {}),
}
_WITHOUT_SEQUENCER: Final = (RESTORE_BEGUN, RESTORED)
"""Only events that create or delete objects have one; those of tags and ACLs are made without."""
_HOST_ID_OCTETS: Final = 56  # 76 characters of base64
_CUSTOMER_ID_CHARACTERS: Final = 13
_REQUEST_ID_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True)
class S3Caller:
    """The request that has caused events, as they tell of it."""

    account_id: str
    source_ip: str
    request_id: str
    host_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEvent:
    """What has happened to an object. What is None is not in the event."""

    name: str
    """One of the names above."""
    key: str
    """Decoded."""
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None
    """Hexadecimal digits that are greater the later the event, for the events of one key."""
    storage_class: str | None = None
    """The archive that a restored object is in."""
    restored_until: datetime | None = None


def message(bucket: BucketNotifications, event: ObjectEvent, caller: S3Caller, time_s: float, id_: str) -> Any:
    """The event for a function, queue or topic. `id_` is that of the configuration, `time_s` when it happened."""
    found = {
        "key": quote_plus(event.key, safe="/", errors="surrogateescape"),
        "size": event.size,
        "eTag": event.etag,
        "versionId": event.version_id,
        "sequencer": _sequencer(event),
    }
    record: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "eventSource": "aws:s3",
        "awsRegion": bucket.region,
        "eventTime": milliseconds(time_s),
        "eventName": event.name,
        "userIdentity": {"principalId": f"AWS:{caller.account_id}"},
        "requestParameters": {"sourceIPAddress": caller.source_ip},
        "responseElements": {"x-amz-request-id": caller.request_id, "x-amz-id-2": caller.host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": id_,
            "bucket": {
                "name": bucket.bucket,
                "ownerIdentity": {"principalId": customer_id(bucket.account_id)},
                "arn": bucket.arn,
            },
            "object": _present(found),
        },
    }
    if event.restored_until is not None:
        record["glacierEventData"] = {
            "restoreEventData": {
                "lifecycleRestorationExpiryTime": milliseconds(event.restored_until.timestamp()),
                "lifecycleRestoreStorageClass": event.storage_class,
            }
        }
    return {"Records": [record]}


def event_bridge_event(
    bucket: BucketNotifications, event: ObjectEvent, caller: S3Caller, time_s: float
) -> Mapping[str, Any]:
    """The event for the default event bus of the bucket's owner."""
    detail_type, facts = _EVENT_BRIDGE[event.name]
    found = {
        "key": event.key,
        "size": event.size,
        "etag": event.etag,
        "version-id": event.version_id,
        "sequencer": _sequencer(event),
    }
    detail: dict[str, Any] = {
        "version": "0",
        "event-version": EVENT_BRIDGE_VERSION,
        "bucket": {"name": bucket.bucket},
        "object": _present(found),
        "request-id": caller.request_id,
    }
    if event.name == RESTORED:
        detail["requester"] = "s3.amazonaws.com"
    else:
        detail |= {"requester": caller.account_id, "source-ip-address": caller.source_ip}
    if event.restored_until is not None:
        detail["restore-expiry-time"] = seconds(event.restored_until.timestamp())
    if event.storage_class is not None:
        detail["source-storage-class"] = event.storage_class
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.s3",
        "account": bucket.account_id,
        "time": seconds(time_s),
        "region": bucket.region,
        "resources": [bucket.arn],
        "detail": {**detail, **facts},
    }


def trial_event(bucket: str, time_s: float, request_id: str, host_id: str) -> Mapping[str, str]:
    """What a queue or topic gets when it is configured.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-enable-disable-notification-intro.html
    """
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": milliseconds(time_s),
        "Bucket": bucket,
        "RequestId": request_id,
        "HostId": host_id,
    }


def milliseconds(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def request_id_of(request_id: str) -> str:
    """A request id as S3 writes them, 16 digits and letters, made of one of lambdad's."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:_REQUEST_ID_CHARACTERS].upper()


def host_id_of(request_id: str) -> str:
    """An x-amz-id-2 for a request: 76 characters of base64, which mean nothing to clients."""
    return base64.b64encode(hashlib.sha512(request_id.encode()).digest()[:_HOST_ID_OCTETS]).decode("ascii")


def customer_id(account_id: str) -> str:
    """The customer that events name as the owner of a bucket: an A and 13 capitals or digits, always the same."""
    digest = base64.b32encode(hashlib.sha256(account_id.encode()).digest()).decode("ascii")
    return f"A{digest[:_CUSTOMER_ID_CHARACTERS]}"


def _sequencer(event: ObjectEvent) -> str | None:
    return None if event.name in _WITHOUT_SEQUENCER else event.sequencer


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
