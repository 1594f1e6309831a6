"""Archives of event buses, and replays of what is in them.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from lambdad.domain.event_buses import BusKey, EventsResourceNotFoundException

REPLAYS_RUNNING_MAX: Final = 10
"""In an account and region."""
REPLAYS_KEPT_MS: Final = 90 * 24 * 3600 * 1000
DAY_MS: Final = 24 * 3600 * 1000
REPLAY_NAME: Final = "replay-name"
"""The field that replayed events have beyond others: no archive takes them again."""

ReplayState = Literal["STARTING", "RUNNING", "CANCELLING", "COMPLETED", "CANCELLED", "FAILED"]
RUNNING_STATES: Final = frozenset({"STARTING", "RUNNING", "CANCELLING"})


@dataclass(frozen=True, slots=True, order=True)
class ArchiveKey:
    """One archive: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:events:{self.region}:{self.account_id}:archive/{self.name}"

    def not_found(self) -> EventsResourceNotFoundException:
        return EventsResourceNotFoundException(f"Archive {self.name} does not exist.")


@dataclass(frozen=True, slots=True)
class Archive:
    """What is kept of a bus: the events that match, all without a pattern; for ever when `retention_days` is 0.

    `id` tells it from an earlier one of that name, whose events it has not.
    """

    key: ArchiveKey
    id: str
    bus: BusKey
    created_ms: int
    pattern: str = ""
    retention_days: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """An event on its way to an archive. `time_ms` is the event's own time, by which replays find it."""

    archive_id: str
    time_ms: int
    stored_ms: int
    document: str


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event is in an archive: ordered by time, then by arrival."""

    time_ms: int
    number: int


@dataclass(frozen=True, slots=True)
class ArchiveSize:
    events: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """A window of an archive that goes to its bus again, to all rules or to those in `filter_arns`.

    Everything up to `place` has been accepted; a restart goes on from there.
    """

    account_id: str
    region: str
    name: str
    archive: ArchiveKey
    archive_id: str
    bus: BusKey
    from_ms: int
    until_ms: int
    started_ms: int
    state: ReplayState = "STARTING"
    reason: str = ""
    description: str = ""
    filter_arns: tuple[str, ...] = ()
    place: Place | None = None
    ended_ms: int | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:events:{self.region}:{self.account_id}:replay/{self.name}"

    @property
    def running(self) -> bool:
        return self.state in RUNNING_STATES
