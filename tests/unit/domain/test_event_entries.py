"""PutEvents: what becomes of an entry.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_entries import ENTRIES_BYTES_MAX, RefusedEntry, check_size, to_event

ACCOUNT, REGION, NOW_MS = "123456789012", "us-east-1", 1_700_000_000_999
ENTRY = {"Source": "shop", "DetailType": "Order", "Detail": '{"a": [1, {"b": null}]}'}


def event(**fields: Any) -> dict[str, Any]:
    return to_event({**ENTRY, **fields}, "id", ACCOUNT, REGION, NOW_MS)


def test_an_entry_becomes_an_event() -> None:
    assert event() == {
        "version": "0",
        "id": "id",
        "detail-type": "Order",
        "source": "shop",
        "account": ACCOUNT,
        "time": "2023-11-14T22:13:20Z",
        "region": REGION,
        "resources": [],
        "detail": {"a": [1, {"b": None}]},
    }
    given = event(Time=datetime(2020, 1, 2, 3, 4, 5, 600_000, UTC), Resources=["arn:a", "b"])
    assert (given["time"], given["resources"]) == ("2020-01-02T03:04:05Z", ["arn:a", "b"])


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"Source": ""}, "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."),
        (
            {"DetailType": None},
            "InvalidArgument",
            "Parameter DetailType is not valid. Reason: DetailType is a required argument.",
        ),
        ({"Detail": None}, "InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."),
        ({"Detail": "{"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "[1]"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": NaN}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a": 1e999}'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' * 100_000}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '{"a":' * 501 + "1" + "}" * 501}, "MalformedDetail", "Detail is malformed."),
        ({"Source": "aws.s3"}, "NotAuthorizedForSourceException", "Not authorized for the source."),
    ],
)
def test_an_entry_is_refused(fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(RefusedEntry) as caught:
        event(**fields)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_a_detail_may_be_deep_and_wide() -> None:
    deep = '{"a":' * 500 + "1" + "}" * 500
    assert event(Detail=deep)["detail"] == json.loads(deep)
    wide = json.dumps({"a": [{}, []] * 1000})
    assert event(Detail=wide)["detail"] == json.loads(wide)


def test_the_size_is_counted_as_documented() -> None:
    """Time is 14 bytes, texts are their bytes in UTF-8, and names do not count."""
    entry = {"Source": "s", "DetailType": "d", "Resources": ["ä", "b"], "Time": datetime.now(UTC)}
    rest = ENTRIES_BYTES_MAX - 14 - 2 - 3
    check_size([{**entry, "Detail": "x" * rest}])
    check_size([{**entry, "Detail": "x" * (rest - 1)}, {"Source": "s"}])
    for entries in ([{**entry, "Detail": "x" * (rest + 1)}], [{**entry, "Detail": "x" * rest}, {"Source": "\ud800"}]):
        with pytest.raises(ValidationException, match=r"Total size of the entries in the request is over the limit."):
            check_size(entries)
