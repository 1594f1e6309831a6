"""What a request to S3 asks for: the operation, the bucket and the key, by method, host, path, query and headers.

S3 has no header that names the operation: a request is told by its method, by whether it names a bucket or an object,
and by the sub-resource in its query. https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

POST_OBJECT: Final = "PostObject"
"""The operation of an upload by an HTML form, which botocore's model does not have.
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
"""

_REGION: Final = r"[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d"
_S3_HOST: Final = re.compile(
    rf"(?:(?P<bucket>.+)\.)?s3(?:[.-](?:dualstack\.)?{_REGION})?"
    r"\.(?:localhost(?:\.localstack\.cloud)?|amazonaws\.com(?:\.cn)?)"
)
_LOCAL_HOST: Final = re.compile(r"(?P<bucket>.+)\.localhost")
_PORT: Final = re.compile(r":\d*$")
_COPY_SOURCE: Final = "x-amz-copy-source"
_REQUEST_TOKEN: Final = "x-amz-request-token"
_FORM: Final = "multipart/form-data"

# The operations on a bucket and on an object that are told by a sub-resource: it is the name of a query parameter.
_BUCKET: Final[Mapping[str, Mapping[str, str]]] = {
    "GET": {
        "abac": "GetBucketAbac",
        "accelerate": "GetBucketAccelerateConfiguration",
        "acl": "GetBucketAcl",
        "analytics": "ListBucketAnalyticsConfigurations",
        "cors": "GetBucketCors",
        "encryption": "GetBucketEncryption",
        "intelligent-tiering": "ListBucketIntelligentTieringConfigurations",
        "inventory": "ListBucketInventoryConfigurations",
        "lifecycle": "GetBucketLifecycleConfiguration",
        "location": "GetBucketLocation",
        "logging": "GetBucketLogging",
        "metadataConfiguration": "GetBucketMetadataConfiguration",
        "metadataTable": "GetBucketMetadataTableConfiguration",
        "metrics": "ListBucketMetricsConfigurations",
        "notification": "GetBucketNotificationConfiguration",
        "object-lock": "GetObjectLockConfiguration",
        "ownershipControls": "GetBucketOwnershipControls",
        "policy": "GetBucketPolicy",
        "policyStatus": "GetBucketPolicyStatus",
        "publicAccessBlock": "GetPublicAccessBlock",
        "replication": "GetBucketReplication",
        "requestPayment": "GetBucketRequestPayment",
        "session": "CreateSession",
        "tagging": "GetBucketTagging",
        "uploads": "ListMultipartUploads",
        "versioning": "GetBucketVersioning",
        "versions": "ListObjectVersions",
        "website": "GetBucketWebsite",
    },
    "PUT": {
        "abac": "PutBucketAbac",
        "accelerate": "PutBucketAccelerateConfiguration",
        "acl": "PutBucketAcl",
        "analytics": "PutBucketAnalyticsConfiguration",
        "cors": "PutBucketCors",
        "encryption": "PutBucketEncryption",
        "intelligent-tiering": "PutBucketIntelligentTieringConfiguration",
        "inventory": "PutBucketInventoryConfiguration",
        "lifecycle": "PutBucketLifecycleConfiguration",
        "logging": "PutBucketLogging",
        "metadataAnnotationTable": "UpdateBucketMetadataAnnotationTableConfiguration",
        "metadataInventoryTable": "UpdateBucketMetadataInventoryTableConfiguration",
        "metadataJournalTable": "UpdateBucketMetadataJournalTableConfiguration",
        "metrics": "PutBucketMetricsConfiguration",
        "notification": "PutBucketNotificationConfiguration",
        "object-lock": "PutObjectLockConfiguration",
        "ownershipControls": "PutBucketOwnershipControls",
        "policy": "PutBucketPolicy",
        "publicAccessBlock": "PutPublicAccessBlock",
        "replication": "PutBucketReplication",
        "requestPayment": "PutBucketRequestPayment",
        "tagging": "PutBucketTagging",
        "versioning": "PutBucketVersioning",
        "website": "PutBucketWebsite",
    },
    "POST": {
        "delete": "DeleteObjects",
        "metadataConfiguration": "CreateBucketMetadataConfiguration",
        "metadataTable": "CreateBucketMetadataTableConfiguration",
    },
    "DELETE": {
        "analytics": "DeleteBucketAnalyticsConfiguration",
        "cors": "DeleteBucketCors",
        "encryption": "DeleteBucketEncryption",
        "intelligent-tiering": "DeleteBucketIntelligentTieringConfiguration",
        "inventory": "DeleteBucketInventoryConfiguration",
        "lifecycle": "DeleteBucketLifecycle",
        "metadataConfiguration": "DeleteBucketMetadataConfiguration",
        "metadataTable": "DeleteBucketMetadataTableConfiguration",
        "metrics": "DeleteBucketMetricsConfiguration",
        "ownershipControls": "DeleteBucketOwnershipControls",
        "policy": "DeleteBucketPolicy",
        "publicAccessBlock": "DeletePublicAccessBlock",
        "replication": "DeleteBucketReplication",
        "tagging": "DeleteBucketTagging",
        "website": "DeleteBucketWebsite",
    },
}
_OBJECT: Final[Mapping[str, Mapping[str, str]]] = {
    "GET": {
        "acl": "GetObjectAcl",
        "annotation": "ListObjectAnnotations",
        "attributes": "GetObjectAttributes",
        "legal-hold": "GetObjectLegalHold",
        "retention": "GetObjectRetention",
        "tagging": "GetObjectTagging",
        "torrent": "GetObjectTorrent",
        "uploadId": "ListParts",
    },
    "PUT": {
        "acl": "PutObjectAcl",
        "annotation": "PutObjectAnnotation",
        "encryption": "UpdateObjectEncryption",
        "legal-hold": "PutObjectLegalHold",
        "renameObject": "RenameObject",
        "retention": "PutObjectRetention",
        "tagging": "PutObjectTagging",
        "uploadId": "UploadPart",
    },
    "POST": {
        "restore": "RestoreObject",
        "select": "SelectObjectContent",
        "uploadId": "CompleteMultipartUpload",
        "uploads": "CreateMultipartUpload",
    },
    "DELETE": {
        "annotation": "DeleteObjectAnnotation",
        "tagging": "DeleteObjectTagging",
        "uploadId": "AbortMultipartUpload",
    },
}
# Where a further parameter or header turns one operation into another.
_WITH_ID: Final = {
    "ListBucketAnalyticsConfigurations": "GetBucketAnalyticsConfiguration",
    "ListBucketIntelligentTieringConfigurations": "GetBucketIntelligentTieringConfiguration",
    "ListBucketInventoryConfigurations": "GetBucketInventoryConfiguration",
    "ListBucketMetricsConfigurations": "GetBucketMetricsConfiguration",
}
_WITH_COPY_SOURCE: Final = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
# What a request with no sub-resource asks for.
_PLAIN_BUCKET: Final = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
_PLAIN_OBJECT: Final = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


@dataclass(frozen=True, slots=True)
class S3Request:
    """`operation` is botocore's name, POST_OBJECT, or empty when S3 has no such operation; the key is decoded.

    Where botocore has two names for one request it is the current one: not PutBucketNotification, GetBucketLifecycle
    and their like, which are deprecated, and ListBuckets rather than ListDirectoryBuckets.
    Octets of a key that are no UTF-8 are surrogates, as `surrogateescape` has them.
    """

    operation: str
    bucket: str
    key: str


def parse(method: str, host: str, path: str, query: str, headers: Mapping[str, str]) -> S3Request:
    """Classify a request. `path` and `query` are as sent, names of headers are in lower case."""
    if method == "POST" and path == "/WriteGetObjectResponse" and _REQUEST_TOKEN in headers:
        return S3Request("WriteGetObjectResponse", "", "")
    bucket = _bucket_of(host)
    key = path.removeprefix("/")
    if not bucket:
        bucket, _, key = key.partition("/")
    bucket, key = (unquote(text, errors="surrogateescape") for text in (bucket, key))
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if not bucket:
        operation = "ListBuckets" if method == "GET" else ""
    elif key:
        operation = _on_object(method, parameters, headers)
    else:
        operation = _on_bucket(method, parameters, headers)
    return S3Request(operation, bucket, key)


def path_style(request: S3Request) -> str:
    """The path of a request that names its bucket in the path, percent-encoded."""
    if not request.bucket:
        return "/WriteGetObjectResponse" if request.operation == "WriteGetObjectResponse" else "/"
    path = f"/{request.bucket}/{request.key}" if request.key else f"/{request.bucket}"
    return quote(path, errors="surrogateescape")


def _bucket_of(host: str) -> str:
    """The bucket that a virtual host names, or nothing when the path names it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    """
    name = _PORT.sub("", host).lower()
    match = _S3_HOST.fullmatch(name) or _LOCAL_HOST.fullmatch(name)
    return (match["bucket"] or "") if match else ""


def _on_bucket(method: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> str:
    operation = _by_sub_resource(_BUCKET.get(method, {}), parameters)
    if operation:
        return _WITH_ID.get(operation, operation) if "id" in parameters else operation
    if method == "POST":
        return POST_OBJECT if headers.get("content-type", "").lower().startswith(_FORM) else ""
    if method == "GET" and parameters.get("list-type") == "2":
        return "ListObjectsV2"
    return _PLAIN_BUCKET.get(method, "")


def _on_object(method: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> str:
    operation = _by_sub_resource(_OBJECT.get(method, {}), parameters) or _PLAIN_OBJECT.get(method, "")
    if operation == "ListObjectAnnotations" and "annotationName" in parameters:
        return "GetObjectAnnotation"
    return _WITH_COPY_SOURCE.get(operation, operation) if _COPY_SOURCE in headers else operation


def _by_sub_resource(operations: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    return next((operations[name] for name in parameters if name in operations), "")
