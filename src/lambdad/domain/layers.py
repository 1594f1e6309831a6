"""Layers: versions of archives that functions find in `/opt`.

https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
"""

from __future__ import annotations

from dataclasses import dataclass


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
