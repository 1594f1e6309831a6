"""What a request to S3 has done to objects, read from the request and its answer.

- DeleteObject and DeleteObjects tell of every key that S3 has taken for deleted, whether there was such an object or
  not: S3 answers alike, and does not document that it tells them apart.
- An ACL that is put as it was is told of; AWS leaves that out.
- A copy, a completed upload, a form, tags and restores are looked up by HeadObject. What another client has deleted in
  the moment between is told of without what could not be found out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs
from xml.etree.ElementTree import Element

from lambdad.domain.s3_events import (
    ACL_PUT,
    CREATED_COPY,
    CREATED_MULTIPART,
    CREATED_POST,
    CREATED_PUT,
    EMPTY_ETAG,
    MARKER_CREATED,
    REMOVED,
    RESTORE_BEGUN,
    RESTORED,
    TAGS_DELETED,
    TAGS_PUT,
    ObjectEvent,
)
from lambdad.domain.s3_notifications import BucketNotifications
from lambdad.domain.s3_requests import POST_OBJECT
from lambdad.domain.s3_xml import S3Error, read, text_of
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable

OPERATIONS: Final[Mapping[str, Sequence[str]]] = {
    "PutObject": (CREATED_PUT,),
    POST_OBJECT: (CREATED_POST,),
    "CopyObject": (CREATED_COPY,),
    "CompleteMultipartUpload": (CREATED_MULTIPART,),
    "DeleteObject": (REMOVED, MARKER_CREATED),
    "DeleteObjects": (REMOVED, MARKER_CREATED),
    "PutObjectTagging": (TAGS_PUT,),
    "DeleteObjectTagging": (TAGS_DELETED,),
    "PutObjectAcl": (ACL_PUT,),
    "RestoreObject": (RESTORE_BEGUN, RESTORED),
}
"""The operations that have events, and which."""
# Copies and completed uploads may fail in the body of a 200; of the others the bodies say what has happened to what.
_IN_BODIES: Final = ("CopyObject", "CompleteMultipartUpload", POST_OBJECT, "DeleteObjects")
_ABOUT_CONTENT: Final = (CREATED_POST, CREATED_COPY, CREATED_MULTIPART)
_ACCEPTED: Final = 202
"""What RestoreObject answers when it begins; 200 when the object is restored already."""
_SIZE: Final = re.compile(r"[0-9]{1,15}")
_RESTORED: Final = re.compile(r'ongoing-request="false",\s*expiry-date="([^"]+)"')
_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?')
_FIELD: Final = re.compile(r'[; ]name="([^"]*)"')
_FILE_NAME: Final = re.compile(r'filename="([^"]*)"')
_UNVERSIONED: Final = "null"
"""The version id of objects in a bucket whose versioning is suspended; events leave it out."""


def attention(operation: str, bucket: BucketNotifications) -> Attention:
    """What is to be seen of an operation, whatever the key; nothing where nobody listens to its events."""
    if not any(bucket.listens(f"s3:{event}") for event in OPERATIONS.get(operation, ())):
        return Attention.NONE
    return Attention.WHOLE if operation in _IN_BODIES else Attention.HEAD


class Observation:
    """Reads events from requests. `sequencer` gives the next of a growing series."""

    def __init__(self, neighbours: Neighbours, sequencer: Callable[[], str]) -> None:
        self._neighbours = neighbours
        self._sequencer = sequencer

    async def events(
        self, request: NeighbourRequest, answer: NeighbourAnswer, bucket: BucketNotifications, key: str
    ) -> list[ObjectEvent]:
        """What a request that has succeeded did. What nobody wants to hear of may be left out."""
        match request.operation:
            case "DeleteObject":
                return [self._deleted(request, answer, key)]
            case "DeleteObjects":
                return await self._all_deleted(request, answer, bucket)
            case "RestoreObject":
                return await self._restored(request, answer, bucket, key)
        (name,) = OPERATIONS[request.operation]
        event = ObjectEvent(name=name, key=key or form_key(request))
        if _failed(answer) or not _is_wanted(bucket, event):
            return []
        if event.name == CREATED_PUT:
            return [await self._put(request, answer, bucket, event)]
        return [await self._looked_up(request, answer, bucket, event)]

    async def _put(
        self, request: NeighbourRequest, answer: NeighbourAnswer, bucket: BucketNotifications, event: ObjectEvent
    ) -> ObjectEvent:
        sent = request.headers.get("x-amz-decoded-content-length", request.headers.get("content-length", ""))
        size = (
            int(sent) if _SIZE.fullmatch(sent) else (await self._head(request, bucket, event.key)).get("ContentLength")
        )
        return replace(
            event,
            size=size,
            etag=_etag(answer.header("etag")),
            version_id=_version(answer.header("x-amz-version-id")),
            sequencer=self._sequencer(),
        )

    def _deleted(self, request: NeighbourRequest, answer: NeighbourAnswer, key: str) -> ObjectEvent:
        version = _parameter(request, "versionId")
        is_marker = answer.header("x-amz-delete-marker") == "true"
        return self._removal(key, version, answer.header("x-amz-version-id") if is_marker else None)

    def _removal(self, key: str, version: str | None, marker: str | None) -> ObjectEvent:
        """`version` is the version that was asked for, `marker` that of the delete marker that is there now or was."""
        if version is None and marker is not None:
            return ObjectEvent(
                name=MARKER_CREATED,
                key=key,
                etag=EMPTY_ETAG,
                version_id=_version(marker),
                sequencer=self._sequencer(),
            )
        return ObjectEvent(name=REMOVED, key=key, version_id=_version(version), sequencer=self._sequencer())

    async def _all_deleted(
        self, request: NeighbourRequest, answer: NeighbourAnswer, bucket: BucketNotifications
    ) -> list[ObjectEvent]:
        """One for each key. An answer that was to be quiet has the errors only: what is in neither was deleted."""
        answered = _read(answer.body)
        told = {_version_of(entry): entry for entry in _entries(answered, "Deleted")}
        settled = told.keys() | {_version_of(entry) for entry in _entries(answered, "Error")}
        asked = dict.fromkeys(_version_of(entry) for entry in _entries(_read(request.body), "Object"))
        # What is said of a key may leave its version out.
        silent = [(key, version) for key, version in asked if not {(key, version), (key, None)} & settled]
        events = [
            self._removal(key, version, text_of(entry, "DeleteMarkerVersionId"))
            for (key, version), entry in told.items()
        ]
        marker = _UNVERSIONED if silent and await self._is_versioned(request, bucket) else None
        return events + [self._removal(key, version, marker) for key, version in silent]

    async def _looked_up(
        self, request: NeighbourRequest, answer: NeighbourAnswer, bucket: BucketNotifications, event: ObjectEvent
    ) -> ObjectEvent:
        is_content = event.name in _ABOUT_CONTENT
        version = answer.header("x-amz-version-id") or _parameter(request, "versionId")
        head = await self._head(request, bucket, event.key, version)
        return replace(
            event,
            size=head.get("ContentLength") if is_content else None,
            etag=_etag(head.get("ETag")),
            version_id=_version(version or head.get("VersionId")),
            sequencer=self._sequencer() if is_content else None,
        )

    async def _restored(
        self, request: NeighbourRequest, answer: NeighbourAnswer, bucket: BucketNotifications, key: str
    ) -> list[ObjectEvent]:
        """The begin of a restore, and its end when that has come already."""
        begun, ended = ObjectEvent(name=RESTORE_BEGUN, key=key), ObjectEvent(name=RESTORED, key=key)
        if answer.status != _ACCEPTED or not (_is_wanted(bucket, begun) or _is_wanted(bucket, ended)):
            return []
        version = _parameter(request, "versionId")
        head = await self._head(request, bucket, key, version)
        until = _RESTORED.search(head.get("Restore", ""))
        begun = replace(
            begun,
            size=head.get("ContentLength"),
            etag=_etag(head.get("ETag")),
            version_id=_version(version or head.get("VersionId")),
            sequencer=self._sequencer(),
            storage_class=head.get("StorageClass"),
        )
        if until is None:
            return [begun]
        expiry = parsedate_to_datetime(until[1])
        expiry = expiry.replace(tzinfo=expiry.tzinfo or UTC)
        return [begun, replace(begun, name=RESTORED, sequencer=self._sequencer(), restored_until=expiry)]

    async def _head(
        self, request: NeighbourRequest, bucket: BucketNotifications, key: str, version: str | None = None
    ) -> Mapping[str, Any]:
        """What HeadObject says, or nothing when the object is gone or S3 cannot be asked."""
        parameters = {"Bucket": bucket.bucket, "Key": key}
        if version is not None and version != _UNVERSIONED:
            parameters["VersionId"] = version
        return await self._ask("HeadObject", parameters, request, bucket)

    async def _is_versioned(self, request: NeighbourRequest, bucket: BucketNotifications) -> bool:
        """Whether a deletion without a version makes a delete marker."""
        return "Status" in await self._ask("GetBucketVersioning", {"Bucket": bucket.bucket}, request, bucket)

    async def _ask(
        self, operation: str, parameters: Mapping[str, str], request: NeighbourRequest, bucket: BucketNotifications
    ) -> Mapping[str, Any]:
        try:
            return await self._neighbours.call(
                "s3", operation, parameters, account_id=request.account_id, region=bucket.region
            )
        except (NeighbourRefused, NeighbourUnavailable):
            return {}


def form_key(request: NeighbourRequest) -> str:
    """The key that an HTML form names, with the name of the file where it says `${filename}`; empty when it has none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html: the file is the last field.
    """
    boundary = _BOUNDARY.search(request.headers.get("content-type", ""))
    if boundary is None or not isinstance(request.body, bytes):
        return ""
    delimiter = b"--" + boundary[1].encode()
    key, start = "", 0
    while (start := request.body.find(delimiter, start)) >= 0:
        start += len(delimiter)
        head_end = request.body.find(b"\r\n\r\n", start)
        head = request.body[start:head_end].decode(errors="replace")
        field = _FIELD.search(head)
        if head_end < 0 or field is None:
            continue
        if field[1].lower() == "file":
            name = _FILE_NAME.search(head)
            return key.replace("${filename}", name[1] if name else "")
        if field[1].lower() == "key":
            key = request.body[head_end + 4 : request.body.find(b"\r\n" + delimiter, head_end)].decode(errors="replace")
    return key


def _is_wanted(bucket: BucketNotifications, event: ObjectEvent) -> bool:
    return bucket.event_bridge or bool(bucket.matching(f"s3:{event.name}", event.key))


def _failed(answer: NeighbourAnswer) -> bool:
    """Whether the body of an answer is an error after all: such operations answer 200 before they have ended."""
    return isinstance(answer.body, bytes) and _read(answer.body).tag == "Error"


def _read(body: object) -> Element:
    """A document, or an element with nothing in it when there is none that can be read."""
    try:
        return read(body) if isinstance(body, bytes) and body else Element("Nothing")
    except S3Error:
        return Element("Nothing")


def _entries(root: Element, name: str) -> Iterator[Element]:
    return (entry for entry in root.iterfind(name) if entry.find("Key") is not None)


def _version_of(entry: Element) -> tuple[str, str | None]:
    """A key, and the version if it is named."""
    return text_of(entry, "Key") or "", text_of(entry, "VersionId")


def _etag(value: str | None) -> str | None:
    return value.strip('"') if value else None


def _version(value: str | None) -> str | None:
    return None if value in (None, "", _UNVERSIONED) else value


def _parameter(request: NeighbourRequest, name: str) -> str | None:
    return parse_qs(request.query).get(name, [None])[0]
