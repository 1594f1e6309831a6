"""Tags of what is not a function: code signing configurations and event source mappings. Functions hold their own.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
https://docs.aws.amazon.com/lambda/latest/api/API_TagResource.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.record_kinds import RecordKind

TOO_MANY_TAGS: Final = "Number of tags exceeds resource tag limit."
_RESERVED_PREFIX: Final = "aws:"

CODE_SIGNING_CONFIG: Final = "code-signing-config"
EVENT_SOURCE_MAPPING: Final = "event-source-mapping"


@dataclass(frozen=True, slots=True)
class ResourceTags:
    """The tags of the resource with this ARN, of which there is at least one."""

    arn: str
    tags: Mapping[str, str]


RESOURCE_TAGS: Final = RecordKind("resource_tags", ResourceTags, lambda tags: (tags.arn,))


def check(tags: Mapping[str, str]) -> None:
    """Refuse reserved keys and too many tags; the service model has seen to lengths.

    Raises InvalidParameterValueException.
    """
    for name in tags:
        if name.lower().startswith(_RESERVED_PREFIX):
            raise InvalidParameterValueException("Tag keys starting with 'aws:' are reserved for internal use.")
    if len(tags) > quotas.TAGS:
        raise InvalidParameterValueException(TOO_MANY_TAGS)
