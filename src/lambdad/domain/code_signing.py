"""Code signing: who may sign what a function runs, and what becomes of packages that they have not signed.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import CodeVerificationFailedException, InvalidCodeSignatureException
from lambdad.domain.record_kinds import RecordKind

WARN: Final = "Warn"
ENFORCE: Final = "Enforce"

SIGNATURE_ENTRY: Final = "META-INF/lambdad.jws"
"""Where lambdad's own signature is in an archive: see docs/adr/0011-code-signing.md."""
AWS_SIGNATURE_PREFIX: Final = "META_INF/aws_signer_signature"
"""Where AWS Signer's is, whose format AWS does not publish."""

_ARN: Final = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):code-signing-config:(?P<id>csc-\w+)"
)
_ID_DIGITS: Final = 17


@dataclass(frozen=True, slots=True)
class CodeSigningConfig:
    """Which signing profiles packages may be signed with, and whether others are let in with a warning."""

    account_id: str
    region: str
    id: str
    signing_profile_version_arns: tuple[str, ...]
    untrusted_artifact_on_deployment: str
    description: str
    last_modified: str

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:code-signing-config:{self.id}"


CODE_SIGNING_CONFIGS: Final = RecordKind(
    "code_signing_config", CodeSigningConfig, lambda config: (config.account_id, config.region, config.id)
)


@dataclass(frozen=True, slots=True)
class PackageSignature:
    """The signature of a package that has been verified: the package is what the owner of the profile signed.

    Whether that is enough is the question of a CodeSigningConfig. Times are in seconds since 1970.
    """

    profile_version_arn: str
    job_arn: str
    signed_at_s: float
    expires_at_s: float
    revoked: bool = False


def new_id() -> str:
    return f"csc-{secrets.token_hex(_ID_DIGITS)[:_ID_DIGITS]}"


def parse_arn(arn: str) -> tuple[str, str, str] | None:
    """The key of the configuration that an ARN names; None for what is no such ARN."""
    match = _ARN.fullmatch(arn)
    return (match["account"], match["region"], match["id"]) if match else None


def accepts(config: CodeSigningConfig, signature: PackageSignature | None, now_s: float) -> bool:
    """The checks that a policy decides about: an allowed profile, no expiry, no revocation."""
    return (
        signature is not None
        and signature.profile_version_arn in config.signing_profile_version_arns
        and now_s < signature.expires_at_s
        and not signature.revoked
    )


def refused(key: FunctionKey) -> CodeVerificationFailedException:
    """What an unsigned package meets, or one whose signature is not accepted, where that is enforced."""
    return CodeVerificationFailedException(
        "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client "
        f"is not configured to accept. Check the provided signature for {key.name}."
    )


def invalid(why: str) -> InvalidCodeSignatureException:
    """What a package meets that has been changed since it was signed, or whose signature cannot be checked."""
    return InvalidCodeSignatureException(
        f"The code signature failed the integrity check: {why}. Lambda blocks the deployment, whatever the code "
        "signing policy is set to."
    )


def manifest(entries: Iterable[tuple[str, int, int, str]]) -> bytes:
    """What is signed of an archive, in the order of names: name, system and attributes, and SHA-384 of each entry."""
    return json.dumps([list(entry) for entry in sorted(entries)], separators=(",", ":")).encode("ascii")
