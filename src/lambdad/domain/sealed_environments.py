"""The environment variables of a version as they are stored: encrypted.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONTEXT_KEY: Final = "aws:lambda:FunctionArn"
"""The encryption context of Lambda's own calls of KMS: policies of keys may name it, and so does CloudTrail.

https://docs.aws.amazon.com/lambda/latest/dg/security-encryption-at-rest.html
"""


@dataclass(frozen=True, slots=True)
class SealedEnvironment:
    """Both in base64. `data_key` is what `ciphertext` was encrypted with, itself encrypted under a key of KMS.

    It is empty where the key of the data directory was used.
    """

    ciphertext: str = field(repr=False)
    data_key: str = field(default="", repr=False)


def context(function_arn: str) -> dict[str, str]:
    """What ties a ciphertext to its function: under another one it cannot be decrypted."""
    return {CONTEXT_KEY: function_arn}


def to_bytes(variables: Mapping[str, str]) -> bytes:
    return json.dumps(dict(variables), separators=(",", ":")).encode("ascii")


def from_bytes(clear: bytes) -> dict[str, str]:
    variables: dict[str, str] = json.loads(clear)
    return variables
