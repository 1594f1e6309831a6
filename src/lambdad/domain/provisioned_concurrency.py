"""Provisioned concurrency: environments of a version that are initialized before anybody asks for them.

https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lambdad.domain.arns import FunctionKey
from lambdad.domain.functions import Alias
from lambdad.domain.record_kinds import RecordKind


@dataclass(frozen=True, slots=True)
class ProvisionedConcurrencyConfig:
    """How many executions of a version, or of what an alias leads to, are to be provisioned.

    `qualifier` is a version number or the name of an alias.
    https://docs.aws.amazon.com/lambda/latest/api/API_PutProvisionedConcurrencyConfig.html
    """

    key: FunctionKey
    qualifier: str
    requested: int
    last_modified_s: float

    @property
    def arn(self) -> str:
        return self.key.qualified_arn(self.qualifier)

    @property
    def last_modified(self) -> str:
        """As the service writes it: `2026-11-21T20:28:49+0000`."""
        return f"{datetime.datetime.fromtimestamp(self.last_modified_s, datetime.UTC):%Y-%m-%dT%H:%M:%S}+0000"


PROVISIONED_CONCURRENCY_CONFIGS: Final = RecordKind(
    "provisioned_concurrency_config",
    ProvisionedConcurrencyConfig,
    lambda config: (*config.key.parts, config.qualifier),
    of_function=True,
)


class Status(StrEnum):
    """How far the environments of a configuration are."""

    IN_PROGRESS = "IN_PROGRESS"
    READY = "READY"
    FAILED = "FAILED"


INIT_FAILURE: Final = "FUNCTION_ERROR_INIT_FAILURE"
"""AWS's reason when the function's own initialization fails."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What there is for a request: environments that have been started, and those of them that are initialized.

    `reason` says why the last one that was started is not there; it is empty when one has been initialized since.
    """

    allocated: int = 0
    available: int = 0
    reason: str = ""

    def status(self, requested: int) -> Status:
        if self.available >= requested:
            return Status.READY
        return Status.FAILED if self.reason else Status.IN_PROGRESS

    def share(self, count: int) -> Allocation:
        """What of this is there for a part of the request."""
        return Allocation(min(count, self.allocated), min(count, self.available), self.reason)

    def without(self, taken: Allocation) -> Allocation:
        """What is left for others."""
        return Allocation(self.allocated - taken.allocated, self.available - taken.available, self.reason)

    def plus(self, other: Allocation) -> Allocation:
        """Two parts of one request together."""
        return Allocation(
            self.allocated + other.allocated, self.available + other.available, self.reason or other.reason
        )


@dataclass(frozen=True, slots=True)
class ProvisionedUse:
    """How an invocation of a version with provisioned environments was run, for the metrics.

    `running` is how many events were in provisioned environments when it had begun, `of` how many of those are wanted.
    """

    is_spillover: bool
    running: int
    of: int


def by_version(config: ProvisionedConcurrencyConfig, alias: Alias | None) -> Mapping[str, int]:
    """The versions that get a configuration's environments; of an alias with two versions each has its weight of them.

    https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html:
    `AllocatedProvisionedConcurrentExecutions`
    """
    if alias is None:
        return {config.qualifier: config.requested}
    if alias.additional_version is None:
        return {alias.function_version: config.requested}
    additional = round(config.requested * alias.additional_weight)
    return {alias.function_version: config.requested - additional, alias.additional_version: additional}
