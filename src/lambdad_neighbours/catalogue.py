"""The services that are served, by botocore's names, and which operations leave everything as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from lambdad.domain.neighbour_services import EMBEDDABLE


class Service(NamedTuple):
    """`package` is moto's, below `moto`; `protocol` is that of botocore's model."""

    package: str
    protocol: str


SERVICES: Final[Mapping[str, Service]] = {
    name: Service(name.replace("-", ""), each.protocol.value) for name, each in EMBEDDABLE.items()
}

_READING_PREFIXES: Final = (
    "BatchDescribe",
    "BatchGet",
    "Describe",
    "Estimate",
    "Filter",
    "Generate",
    "Get",
    "Head",
    "List",
    "Lookup",
    "Query",
    "Scan",
    "Search",
    "Simulate",
    "TransactGet",
    "Validate",
    "Verify",
)
_READING_WORDS: Final = frozenset(
    {"Decrypt", "Encrypt", "ReEncrypt", "Sign", "TestState", "Publish", "PublishBatch", "SendEmail", "SendRawEmail"}
)
# Named as if they only read, they hand out a task, make an identity, or a report that is read later.
_WRITING_WORDS: Final = frozenset(
    {
        "GenerateCredentialReport",
        "GenerateOrganizationsAccessReport",
        "GenerateServiceLastAccessedDetails",
        "GetActivityTask",
        "GetFederationToken",
        "GetId",
        "GetOpenIdTokenForDeveloperIdentity",
        "GetSessionToken",
        "GetSigningCertificate",
        "VerifyDomainDkim",
        "VerifyDomainIdentity",
        "VerifyEmailAddress",
        "VerifyEmailIdentity",
        "VerifySoftwareToken",
    }
)

# Parts of S3's API of which moto knows nothing: it would take a bucket's for ListObjects or CreateBucket, and an
# object's for GetObject or PutObject, and do that instead.
_UNKNOWN_OF_BUCKETS: Final = frozenset(
    {
        "abac",
        "analytics",
        "intelligent-tiering",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataAnnotationTable",
        "metadataTable",
        "metrics",
        "requestPayment",
        "session",
    }
)
_UNKNOWN_OF_OBJECTS: Final = frozenset({"annotation", "encryption", "renameObject", "torrent"})


def changes_state(operation: str, method: str) -> bool:
    """Whether an operation may leave something that a restart must not lose.

    `operation` is the name from the target header or the query protocol; without one the method says it.
    """
    if not operation:
        return method not in {"GET", "HEAD", "OPTIONS"}
    if operation in _WRITING_WORDS:
        return True
    return operation not in _READING_WORDS and not operation.startswith(_READING_PREFIXES)


def is_unknown_to_moto(path: str, query: str) -> bool:
    """Whether a path-style request to S3 is for a part of its API that moto would take for another."""
    if not query:
        return False
    names = {part.partition("=")[0] for part in query.split("&")}
    has_key = "/" in path.strip("/")
    return not names.isdisjoint(_UNKNOWN_OF_OBJECTS if has_key else _UNKNOWN_OF_BUCKETS)
