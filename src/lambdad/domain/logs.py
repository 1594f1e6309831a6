"""CloudWatch Logs: records, names, quotas and errors.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/Welcome.html and
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html

    ServiceError
    ├── InvalidParameterException      400
    ├── LogResourceNotFoundException   400  ResourceNotFoundException on the wire; Lambda's own one is a 404
    ├── ResourceAlreadyExistsException 400
    ├── TooManyTagsException           400
    ├── LogGroupProtected              400  ValidationException on the wire
    └── ServiceUnavailableException    500  the store cannot do it now
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from lambdad.domain.errors import ServiceError

EVENT_BYTES: Final = 1024 * 1024
EVENT_OVERHEAD_BYTES: Final = 26
BATCH_EVENTS: Final = 10_000
BATCH_BYTES: Final = 1_048_576
BATCH_SPAN_MS: Final = 24 * 3600 * 1000
PAST_MS: Final = 14 * 24 * 3600 * 1000
FUTURE_MS: Final = 2 * 3600 * 1000
PAGE_EVENTS: Final = 10_000
PAGE_BYTES: Final = 1024 * 1024
DESCRIBE_PAGE: Final = 50
TAGS: Final = 50
TOKEN_LIFE_MS: Final = 24 * 3600 * 1000
DAY_MS: Final = 24 * 3600 * 1000
# FilterLogEvents newest first: the first moment that startTime may have.
NEWEST_FIRST_SINCE_MS: Final = 1_704_067_200_000
RETENTION_DAYS: Final = frozenset(
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
)
LOG_GROUP_CLASSES: Final = ("STANDARD", "INFREQUENT_ACCESS")

_EVENT_CHARACTERS: Final = EVENT_BYTES - EVENT_OVERHEAD_BYTES
_GROUP_ARN: Final = re.compile(
    r"arn:aws[a-zA-Z-]*:logs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):log-group:(?P<name>[.\-_/#A-Za-z0-9]+)(?::\*)?"
)
_STREAM_TOKEN: Final = re.compile(r"(?P<direction>[fb])/(?P<timestamp>\d{20})(?P<sequence>\d{36})/s")


class InvalidParameterException(ServiceError):
    code = "InvalidParameterException"
    status = 400


class LogResourceNotFoundException(ServiceError):
    code = "ResourceNotFoundException"
    status = 400


class ResourceAlreadyExistsException(ServiceError):
    code = "ResourceAlreadyExistsException"
    status = 400


class TooManyTagsException(ServiceError):
    """`resourceName` is the ARN of what has too many tags."""

    code = "TooManyTagsException"
    status = 400


class LogGroupProtected(ServiceError):
    """Deletion protection is on."""

    code = "ValidationException"
    status = 400


class ServiceUnavailableException(ServiceError):
    code = "ServiceUnavailableException"
    status = 500
    fault = "Service"


def group_not_found() -> LogResourceNotFoundException:
    return LogResourceNotFoundException("The specified log group does not exist.")


def stream_not_found() -> LogResourceNotFoundException:
    return LogResourceNotFoundException("The specified log stream does not exist.")


def group_exists() -> ResourceAlreadyExistsException:
    return ResourceAlreadyExistsException("The specified log group already exists")


def stream_exists() -> ResourceAlreadyExistsException:
    return ResourceAlreadyExistsException("The specified log stream already exists")


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """One log group: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        """The form for tags and identifiers; the form for IAM policies has `:*` after it."""
        return f"arn:aws:logs:{self.region}:{self.account_id}:log-group:{self.name}"

    def stream_arn(self, stream: str) -> str:
        return f"{self.arn}:log-stream:{stream}"


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group; `stored_bytes` counts its events as PutLogEvents does."""

    key: GroupKey
    created_ms: int
    log_group_class: str = "STANDARD"
    retention_days: int | None = None
    deletion_protected: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    stored_bytes: int = 0

    def kept_since_ms(self, now_ms: int) -> int:
        """The time of the oldest event that is kept: those before it are neither returned nor stored."""
        return 0 if self.retention_days is None else max(0, now_ms - self.retention_days * DAY_MS)

    def tagged(self, tags: Mapping[str, str]) -> LogGroup:
        """The group with these tags added to its own. Raises TooManyTagsException above 50."""
        merged = {**self.tags, **tags}
        if len(merged) > TAGS:
            raise TooManyTagsException(
                f"The number of tags exceeds the limit of {TAGS} tags per resource.", resourceName=self.key.arn
            )
        return replace(self, tags=merged)

    def untagged(self, keys: Iterable[str]) -> LogGroup:
        removed = set(keys)
        return replace(self, tags={key: value for key, value in self.tags.items() if key not in removed})


@dataclass(frozen=True, slots=True)
class LogStream:
    """A log stream; the times of its events are None until it has one."""

    name: str
    created_ms: int
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    last_ingestion_ms: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place among events: they are ordered by timestamp, then by `sequence`, the order in which they arrived."""

    timestamp_ms: int
    sequence: int

    @property
    def digits(self) -> str:
        """The 56 digits that AWS gives event ids and tokens."""
        return f"{self.timestamp_ms:020d}{self.sequence:036d}"

    @property
    def next(self) -> Position:
        return Position(self.timestamp_ms, self.sequence + 1)


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One stored event."""

    position: Position
    stream: str
    ingested_ms: int
    message: str

    @property
    def event_id(self) -> str:
        return self.position.digits

    @property
    def size(self) -> int:
        """Bytes, as PutLogEvents counts them."""
        return utf8_bytes(self.message) + EVENT_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of one stream that arrived together, in the order in which they arrived: `(timestamp_ms, message)`."""

    group: GroupKey
    stream: str
    ingested_ms: int
    events: Sequence[tuple[int, str]]


def utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def stored_text(text: str) -> str:
    """The text as UTF-8 can hold it: half of a surrogate pair becomes a question mark."""
    if text.isascii():
        return text
    return text.encode(errors="replace").decode()


def storable_events(events: Sequence[tuple[int, str]]) -> tuple[Sequence[tuple[int, str]], int]:
    """Events as they can be stored: texts in UTF-8, none empty, and those above the quota cut into several.

    Beside them is how many characters they have.
    """
    # All texts are looked at as one, which costs next to nothing: as a rule they are fit as they are.
    messages = [message for _, message in events]
    joined = "".join(messages)
    # A character takes at most four bytes.
    most = _EVENT_CHARACTERS if joined.isascii() else _EVENT_CHARACTERS // 4
    if (len(joined) <= most or max(map(len, messages)) <= most) and all(messages) and stored_text(joined) == joined:
        return tuple(events), len(joined)
    fitting = []
    for timestamp_ms, message in events:
        text = stored_text(message)
        most = _EVENT_CHARACTERS if text.isascii() else _EVENT_CHARACTERS // 4
        fitting += [(timestamp_ms, text[at : at + most]) for at in range(0, len(text), most)]
    return fitting, sum(len(message) for _, message in fitting)


def parse_group(identifier: str, account_id: str, region: str) -> GroupKey:
    """Read a logGroupIdentifier: a name, or an ARN of this account and region.

    Raises ResourceNotFoundException for an ARN of another account or region, InvalidParameterException for another ARN.
    """
    if not identifier.startswith("arn:"):
        return GroupKey(account_id, region, identifier)
    match = _GROUP_ARN.fullmatch(identifier)
    if match is None:
        raise InvalidParameterException(f"Invalid log group ARN: {identifier}")
    if (match["account"], match["region"]) != (account_id, region):
        raise group_not_found()
    return GroupKey(account_id, region, match["name"])


def check_group_name(name: str) -> None:
    """Raise InvalidParameterException for the prefix that CreateLogGroup reserves."""
    if name.lower().startswith("aws/"):
        raise InvalidParameterException("Log groups starting with AWS/ are reserved for AWS.")


@dataclass(frozen=True, slots=True)
class AcceptedEvents:
    """The events of a PutLogEvents call that are stored, and where the others are, as rejectedLogEventsInfo says it."""

    events: Sequence[tuple[int, str]]
    rejected: Mapping[str, int]


def check_batch(events: Sequence[tuple[int, str]], now_ms: int, kept_since_ms: int) -> AcceptedEvents:
    """Apply the rules of PutLogEvents to a batch.

    Raises InvalidParameterException when the batch as a whole is refused: out of order, too large, or its valid events
    span more than 24 hours. Events that are too old, expired or too new are left out and named in `rejected`.
    """
    times = [timestamp for timestamp, _ in events]
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise InvalidParameterException("Log events in a single PutLogEvents request must be in chronological order.")
    total = 0
    for _, message in events:
        size = utf8_bytes(message) + EVENT_OVERHEAD_BYTES
        if size > EVENT_BYTES:
            raise InvalidParameterException(f"Log event too large: {size} bytes exceeds limit of {EVENT_BYTES}")
        total += size
    if total > BATCH_BYTES:
        raise InvalidParameterException(f"Upload too large: {total} bytes exceeds limit of {BATCH_BYTES}")
    old = sum(timestamp < now_ms - PAST_MS for timestamp in times)
    expired = sum(timestamp < kept_since_ms for timestamp in times)
    new = sum(timestamp > now_ms + FUTURE_MS for timestamp in times)
    valid = events[max(old, expired) : len(events) - new]
    if valid and valid[-1][0] - valid[0][0] > BATCH_SPAN_MS:
        raise InvalidParameterException(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )
    rejected = {}
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if expired > old:
        rejected["expiredLogEventEndIndex"] = expired
    if new:
        rejected["tooNewLogEventStartIndex"] = len(events) - new
    return AcceptedEvents(valid, rejected)


def stream_token(position: Position, *, forward: bool) -> str:
    """A GetLogEvents token: the events after the position, or those before it."""
    return f"{'f' if forward else 'b'}/{position.digits}/s"


def parse_stream_token(token: str) -> tuple[Position, bool]:
    """Read a GetLogEvents token: a position, and whether to go forward from it.

    Raises InvalidParameterException for anything else.
    """
    match = _STREAM_TOKEN.fullmatch(token)
    if match is None:
        raise invalid_token()
    return _position(match["timestamp"], match["sequence"]), match["direction"] == "f"


def _position(timestamp: str, sequence: str) -> Position:
    position = Position(int(timestamp), int(sequence))
    if max(position.timestamp_ms, position.sequence) >= 2**63:
        raise invalid_token()
    return position


def invalid_token() -> InvalidParameterException:
    return InvalidParameterException("The specified nextToken is invalid.")


def page_token(issued_ms: int, place: str, *asked: object) -> str:
    """A token for the page after `place` of the request that `asked` sums up."""
    text = f"{issued_ms}:{_fingerprint(asked)}:{place}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_page_token(token: str, now_ms: int, *asked: object) -> str:
    """The place in a token that `page_token` made for the same request less than 24 hours ago.

    Raises InvalidParameterException for any other.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        issued_ms, fingerprint, place = text.split(":", 2)
        fresh = 0 <= now_ms - int(issued_ms) < TOKEN_LIFE_MS
    except (ValueError, binascii.Error):
        raise invalid_token() from None
    if not fresh or fingerprint != _fingerprint(asked):
        raise invalid_token()
    return place


def parse_place(digits: str) -> Position:
    """The position whose `digits` these are. Raises InvalidParameterException."""
    if re.fullmatch(r"[0-9]{56}", digits) is None:
        raise invalid_token()
    return _position(digits[:20], digits[20:])


def _fingerprint(asked: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(asked).encode(errors="replace")).hexdigest()[:16]
