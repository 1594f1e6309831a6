"""Filter criteria of event source mappings.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
A record is processed when it matches any of the filters. The part of a record that carries the producer's data (`body`
of SQS, `data` of Kinesis) is JSON for a pattern that looks into it, and text for one that compares it as a whole; what
is in the other form does not match: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.event_patterns import InvalidEventPatternException, Pattern, compile_pattern

_DATA_FIELDS: Final = {"sqs": "body", "kinesis": "data"}
"""By the name of the service; the records of DynamoDB are JSON throughout."""
_INVALID: Final = "Invalid filter pattern definition."


@dataclass(frozen=True, slots=True)
class _Filter:
    """`wants_json` is None where the pattern says nothing about the data."""

    pattern: Pattern
    wants_json: bool | None


class SourceFilters:
    """The filters of a mapping, compiled. Raises InvalidParameterValueException for what is no pattern."""

    def __init__(self, patterns: Sequence[str], service: str) -> None:
        self._field = _DATA_FIELDS.get(service)
        self._filters = [_compiled(text, self._field) for text in patterns]

    def let_pass(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of an event, as the function would see it, is to be processed. Never raises."""
        if not self._filters:
            return True
        if self._field is None:
            return any(each.pattern.matches(record) for each in self._filters)
        document = dict(record.get("kinesis") or record)
        data, is_json = _data(document.get(self._field), encoded=self._field == "data")
        document[self._field] = data
        return any(each.wants_json in (None, is_json) and each.pattern.matches(document) for each in self._filters)


def _compiled(text: str, field: str | None) -> _Filter:
    try:
        pattern = compile_pattern(text)
    except InvalidEventPatternException:
        raise InvalidParameterValueException(_INVALID) from None
    wanted = json.loads(text).get(field) if field is not None else None
    return _Filter(pattern, None if wanted is None else isinstance(wanted, dict))


def _data(value: Any, *, encoded: bool) -> tuple[Any, bool]:
    """The data of a record, and whether it is JSON: an object or an array. Anything else counts as plain text."""
    if not isinstance(value, str):
        return value, False
    text = value
    try:
        if encoded:
            text = base64.b64decode(value).decode("utf-8", "replace")
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text, False
    return (document, True) if isinstance(document, dict | list) else (text, False)
