"""The records of functions, versions and aliases. They are frozen: a change is a new record in the store."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.layers import LayerUse
from lambdad.domain.record_kinds import RecordKind
from lambdad.domain.sealed_environments import SealedEnvironment


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """Where a function logs, and in what form. Levels apply to the JSON format only."""

    log_group: str
    log_format: str = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """The code and configuration of one version: `$LATEST`, which changes, or a published one, which does not.

    `code_sha256` is the hex digest that names the package in the blob store; the API shows it in base64.
    """

    key: FunctionKey
    version: str
    role: str
    runtime: str
    handler: str
    code_sha256: str
    code_size: int
    logging: LoggingConfig
    revision_id: str
    last_modified: str
    description: str = ""
    timeout_s: int = quotas.TIMEOUT_S_DEFAULT
    memory_mb: int = quotas.MEMORY_MB_MIN
    ephemeral_storage_mb: int = quotas.EPHEMERAL_STORAGE_MB_MIN
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables in clear text: of a draft, and of a record that an older lambdad has written. Never stored."""
    tracing_mode: str = "PassThrough"
    architecture: str = "x86_64"
    runtime_version: str = ""
    """The interpreter that runs it, such as `python:3.11.7`; empty for a custom runtime."""
    update_runtime_on: str = "Auto"
    """When it goes over to another one: a `lambdad.domain.runtimes.UpdateRuntimeOn`."""
    latest_description: str | None = None
    """Of a published version: the description that `$LATEST` had then. Publishing can give a version one of its own."""
    dead_letter_arn: str = ""
    """The queue or topic that gets asynchronous events which have failed; empty for none."""
    layers: tuple[LayerUse, ...] = ()
    """In the order in which they are merged; later ones are laid over earlier ones."""
    code_unzipped_bytes: int = 0
    signing_profile_version_arn: str = ""
    signing_job_arn: str = ""
    """Of the package: the version of the signing profile and the job that signed it; empty when not checked."""
    kms_key_arn: str = ""
    """The key of KMS under which the variables are encrypted; empty for the key of the data directory."""
    sealed_environment: SealedEnvironment | None = None
    """The variables as they are stored; None for none."""
    configuration_revision_id: str = ""
    """The revision that its code and configuration are of, where only permissions have changed since."""

    @property
    def arn(self) -> str:
        """The qualified ARN, as a function sees it for a version; `$LATEST` is shown unqualified by the API."""
        return self.key.qualified_arn(self.version)

    @property
    def environment_key(self) -> str:
        """What its environments are known by: it changes with code and configuration, and not with permissions."""
        return self.configuration_revision_id or self.revision_id

    def same_content(self, other: FunctionVersion) -> bool:
        """Whether publishing this would only repeat the version `other`: the same code and the same configuration.

        https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
        """
        if self.description != (other.description if other.latest_description is None else other.latest_description):
            return False
        as_published = replace(
            self,
            version=other.version,
            revision_id=other.revision_id,
            configuration_revision_id=other.configuration_revision_id,
            last_modified=other.last_modified,
            runtime_version=other.runtime_version,
            update_runtime_on=other.update_runtime_on,
            description=other.description,
            latest_description=other.latest_description,
        )
        return as_published == other


@dataclass(frozen=True, slots=True)
class Alias:
    """A pointer to a version, and perhaps to a second one that takes `additional_weight` of the traffic."""

    key: FunctionKey
    name: str
    function_version: str
    description: str
    revision_id: str
    additional_version: str | None = None
    additional_weight: float = 0.0

    @property
    def arn(self) -> str:
        return self.key.qualified_arn(self.name)

    @property
    def versions(self) -> tuple[str, ...]:
        if self.additional_version is None:
            return (self.function_version,)
        return (self.function_version, self.additional_version)

    def version_for(self, draw: float) -> str:
        """The version that a request takes, for a number drawn evenly from [0, 1)."""
        if self.additional_version is not None and draw < self.additional_weight:
            return self.additional_version
        return self.function_version


@dataclass(frozen=True, slots=True)
class Function:
    """What belongs to a function as a whole. `reserved_concurrency`: 0 throttles everything, None reserves nothing."""

    key: FunctionKey
    tags: Mapping[str, str] = field(default_factory=dict)
    next_version: int = 1
    reserved_concurrency: int | None = None
    recursive_loop: str = "Terminate"
    """What becomes of a recursive loop: `Terminate` or `Allow`."""
    code_signing_config_arn: str = ""


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """How asynchronous invocations of a function, version or alias are retried, and who hears of their ends.

    `qualifier` is `$LATEST`, a version number or the name of an alias. None is AWS's default.
    https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html
    """

    key: FunctionKey
    qualifier: str
    last_modified_s: float
    max_retry_attempts: int | None = None
    max_event_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    """ARNs of destinations."""

    @property
    def arn(self) -> str:
        return self.key.qualified_arn(self.qualifier)


EVENT_INVOKE_CONFIGS: Final = RecordKind(
    "event_invoke_config", EventInvokeConfig, lambda config: (*config.key.parts, config.qualifier), of_function=True
)


def new_revision_id() -> str:
    return str(uuid.uuid4())


def timestamp(seconds: float) -> str:
    """A time as Lambda writes `LastModified`: `2026-11-21T03:54:24.123+0000`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def runtime_version_arn(region: str, runtime_version: str) -> str:
    """An ARN of the form that AWS gives to runtime versions, naming the interpreter that really runs."""
    return f"arn:aws:lambda:{region}::runtime:{runtime_version.replace(':', '-')}"


def is_latest(version: FunctionVersion) -> bool:
    return version.version == LATEST
