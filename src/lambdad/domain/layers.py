"""Layers: versions of archives that functions find in `/opt`.

https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.record_kinds import RecordKind, number_part
from lambdad.domain.resource_policies import Statement, policy_document

GET_LAYER_VERSION: Final = "lambda:GetLayerVersion"
VERSION_END: Final = 10**17
"""Beyond every version number."""

_ARN: Final = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[a-zA-Z0-9-_]{1,140})"
    r"(?::(?P<version>\d{1,17}))?"
)


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A layer version as a function has it: what the function needs of it is its own, as the version may be deleted.

    `code_sha256` is the hex digest that names the archive in the blob store; sizes are in bytes.
    """

    arn: str
    code_sha256: str
    code_size: int
    unzipped_bytes: int
    signing_profile_version_arn: str = ""
    signing_job_arn: str = ""


@dataclass(frozen=True, slots=True)
class LayerKey:
    """One layer: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:layer:{self.name}"

    @property
    def parts(self) -> tuple[str, str, str]:
        """What tells it from every other layer, in the order in which records are kept."""
        return self.account_id, self.region, self.name

    def version_arn(self, version: int) -> str:
        return f"{self.arn}:{version}"


@dataclass(frozen=True, slots=True)
class Layer:
    """What outlives a layer's versions: the number that the next one gets, as numbers are not used again."""

    key: LayerKey
    next_version: int = 1


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """One version of a layer, which does not change.

    `code_sha256` is the hex digest that names the archive in the blob store; sizes are in bytes.
    """

    key: LayerKey
    version: int
    code_sha256: str
    code_size: int
    unzipped_bytes: int
    created: str
    description: str = ""
    license_info: str = ""
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()
    signing_profile_version_arn: str = ""
    signing_job_arn: str = ""

    @property
    def arn(self) -> str:
        return self.key.version_arn(self.version)

    @property
    def use(self) -> LayerUse:
        """This version as a function has it from now on."""
        return LayerUse(
            self.arn,
            self.code_sha256,
            self.code_size,
            self.unzipped_bytes,
            self.signing_profile_version_arn,
            self.signing_job_arn,
        )

    def fits(self, runtime: str | None, architecture: str | None) -> bool:
        """Whether it says that it is for a runtime and an architecture; None asks for nothing.

        A version that names no architectures is not listed under any, as one without runtimes is not.
        """
        return (runtime is None or runtime in self.compatible_runtimes) and (
            architecture is None or architecture in self.compatible_architectures
        )


@dataclass(frozen=True, slots=True)
class LayerPolicy:
    """Who else may use one version of a layer."""

    key: LayerKey
    version: int
    statements: tuple[Statement, ...]
    revision_id: str

    def document(self) -> str:
        """The policy as GetLayerVersionPolicy shows it, whose length is what the quota counts."""
        return policy_document(self.statements)


def version_part(version: int) -> str:
    """The number of a version as a part of its key: the newest come first, as they do in lists."""
    return number_part(VERSION_END - version)


LAYERS: Final = RecordKind("layer", Layer, lambda layer: layer.key.parts)
LAYER_VERSIONS: Final = RecordKind(
    "layer_version", LayerVersion, lambda version: (*version.key.parts, version_part(version.version))
)
LAYER_POLICIES: Final = RecordKind(
    "layer_policy", LayerPolicy, lambda policy: (*policy.key.parts, version_part(policy.version))
)


def parse_layer_name(text: str, account_id: str, region: str) -> LayerKey:
    """The layer that a LayerName names: a name, or the ARN of a layer, of any account and region."""
    match = _ARN.fullmatch(text)
    return LayerKey(match["account"], match["region"], match["name"]) if match else LayerKey(account_id, region, text)


def parse_version_arn(arn: str) -> tuple[LayerKey, int]:
    """A layer and the number of its version. Raises InvalidParameterValueException for what is no such ARN."""
    match = _ARN.fullmatch(arn)
    if match is None or match["version"] is None:
        raise InvalidParameterValueException(f"Invalid layer version arn: {arn}")
    return LayerKey(match["account"], match["region"], match["name"]), int(match["version"])


def merged_sha256(digests: Sequence[str]) -> str:
    """What several layers, laid over each other in this order, are known by: 64 hex digits, as an archive's hash."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def archives_of(layers: Sequence[LayerUse]) -> tuple[str, ...]:
    """Everything that has to be kept for a function's layers: their archives, and what they are when merged."""
    digests = tuple(layer.code_sha256 for layer in layers)
    return (*digests, merged_sha256(digests)) if len(digests) > 1 else digests
