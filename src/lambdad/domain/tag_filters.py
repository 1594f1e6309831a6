"""The filters of ListLogGroups.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_ListLogGroups.html and API_TagFilter.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def matches_name_pattern(name: str, pattern: str) -> bool:
    """Whether a name starts with (`^a`) or holds (`a`) one of the texts between the bars; the empty one takes all."""
    return any(name.startswith(part[1:]) if part.startswith("^") else part in name for part in pattern.split("|"))


def matches_tag_filters(tags: Mapping[str, str], filters: Sequence[Mapping[str, Any]]) -> bool:
    """Whether tags satisfy every filter `{key, values}`: the key is there, with one of the values if any are given.

    A value may start with `!` (not this one) and have `*` at its ends; with a star, case does not matter.
    """
    return all(
        wanted["key"] in tags
        and (not wanted.get("values") or any(_matches(tags[wanted["key"]], value) for value in wanted["values"]))
        for wanted in filters
    )


def _matches(found: str, value: str) -> bool:
    if value.startswith("!"):
        return not _matches(found, value[1:])
    start, end = value.startswith("*"), value.endswith("*")
    if not start and not end:
        return found == value
    text, found = value.strip("*").lower(), found.lower()
    if start and end:
        return text in found
    return found.endswith(text) if start else found.startswith(text)
