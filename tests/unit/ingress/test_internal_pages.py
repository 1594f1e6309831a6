"""lambdad's own pages: what they ask for, what they refuse, and what they answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.domain.events import Condition, Purpose
from lambdad.domain.metric_names import MetricName
from lambdad.ingress.event_pages import ROWS, event_pages
from lambdad.ingress.internal import InternalPages
from lambdad.ingress.messages import Body, Request
from lambdad.ingress.metric_pages import metric_pages
from lambdad.ingress.page_requests import BODY_BYTES
from lambdad.ports.events import EventRow, LaneSummary, Selection
from lambdad.services.metrics import Metrics

ACCOUNT, REGION = "000000000000", "us-east-1"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
NOW_S = 1_700_000_000
JSON = "application/json"


class Queue:
    """A queue that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.lanes = [LaneSummary(lane, waiting=1) for lane in (ARN, f"{ARN}:live", f"{ARN}2", QUEUE_ARN)]
        self.events: list[EventRow] = []

    async def summaries(self) -> Sequence[LaneSummary]:
        return self.lanes

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]:
        self.asked.append(("rows", selection, dead, limit))
        return self.events

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]:
        self.asked.append(("endings", *request_ids))
        return self.events

    async def redrive(self, selection: Selection) -> int:
        self.asked.append(("redrive", selection))
        return 3

    async def purge(self, selection: Selection, *, dead: bool) -> int:
        self.asked.append(("purge", selection, dead))
        return 4


class World:
    def __init__(self) -> None:
        clock = FakeClock(NOW_S)
        self.queue = Queue()
        self.metrics = Metrics(MemoryMetricStore(), clock)
        self.pages = InternalPages(
            {"info": self._info},
            event_pages(self.queue, clock, ACCOUNT, REGION),
            metric_pages(self.metrics, clock, ACCOUNT, REGION),
        )

    async def _info(self) -> dict[str, str]:
        return {"version": "1"}

    def get(self, target: str, method: str = "GET") -> tuple[int, Any]:
        return asyncio.run(self._answer(method, target, b"", ""))

    def post(self, page: str, body: bytes | dict[str, Any], content_type: str = JSON) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self._answer("POST", page, content, content_type))

    async def _answer(self, method: str, page: str, content: bytes, content_type: str) -> tuple[int, Any]:
        body = Body(lambda: None, lambda held: None)
        body.feed(content)
        body.finish()
        headers = {"content-type": content_type} if content_type else {}
        response = await self.pages.answer(Request(method, f"/_lambdad/{page}", headers, body, True), "id")
        assert isinstance(response.body, bytes)
        return response.status, json.loads(response.body)


@pytest.mark.parametrize(
    ("method", "page", "status"),
    [
        ("GET", "info", 200),
        ("HEAD", "info", 200),
        ("HEAD", "events", 200),
        ("POST", "info", 405),
        ("PUT", "events", 405),
        ("POST", "events", 405),
        ("GET", "events/redrive", 405),
        ("GET", "events/purge", 405),
        ("GET", "nothing", 404),
        ("POST", "nothing", 404),
        ("GET", "events/", 404),
    ],
)
def test_pages_have_methods(method: str, page: str, status: int) -> None:
    assert World().get(page, method)[0] == status


def test_summaries_are_those_of_a_function_and_what_is_below_it() -> None:
    world = World()
    status, document = world.get("events")
    assert (status, document["now_ms"], document["account_id"], document["region"]) == (
        200,
        NOW_S * 1000,
        ACCOUNT,
        REGION,
    )
    assert [lane["lane"] for lane in document["functions"]] == [ARN, f"{ARN}:live", f"{ARN}2", QUEUE_ARN]
    assert document["functions"][0] == {
        "lane": ARN,
        "waiting": 1,
        "retrying": 0,
        "leased": 0,
        "running": 0,
        "dead": 0,
        "ended": 0,
        "oldest_accepted_ms": None,
        "next_due_ms": None,
    }

    def lanes(query: str) -> list[str]:
        return [lane["lane"] for lane in world.get(f"events?{query}")[1]["functions"]]

    assert lanes("function=f") == [ARN, f"{ARN}:live"]
    assert lanes("function=f:live") == [f"{ARN}:live"]
    assert lanes(f"function={QUEUE_ARN}") == [QUEUE_ARN]
    assert lanes("function=f&region=eu-west-1") == []
    assert lanes("function=f&account_id=111111111111") == []


@pytest.mark.parametrize(
    ("query", "selection", "dead", "limit"),
    [
        ("", Selection(), False, ROWS),
        ("?function=f", Selection(ARN), False, ROWS),
        ("?function=f%3Alive&dead=true&limit=7", Selection(f"{ARN}:live"), True, 7),
        (f"?function={ARN}:1&dead=false", Selection(f"{ARN}:1"), False, ROWS),
        (f"?function={QUEUE_ARN}&region=eu-west-1", Selection(QUEUE_ARN), False, ROWS),
        (
            "?function=f&region=eu-west-1&account_id=111111111111",
            Selection("arn:aws:lambda:eu-west-1:111111111111:function:f"),
            False,
            ROWS,
        ),
    ],
)
def test_what_is_listed(query: str, selection: Selection, dead: bool, limit: int) -> None:
    world = World()
    assert world.get(f"events/list{query}")[0] == 200
    assert world.queue.asked == [("rows", selection, dead, limit)]


def test_the_outcome_of_an_invocation() -> None:
    world = World()
    assert world.get("events/outcome?request_id=r")[0] == 200
    assert world.queue.asked == [("endings", "r")]
    assert world.get("events/outcome")[0] == 400


def test_events_are_listed_with_all_that_is_known() -> None:
    world = World()
    queued = EventRow(7, ARN, "r", Purpose.INVOCATION, 1, 2, 3, 4, 200, "x", "")
    ended = replace(queued, condition=Condition.RETRIES_EXHAUSTED, ended_ms=9)
    world.queue.events = [queued, ended]
    document = world.get("events/list")[1]
    assert document["now_ms"] == NOW_S * 1000
    assert document["events"][0] == {
        "id": 7,
        "lane": ARN,
        "request_id": "r",
        "purpose": "Invocation",
        "accepted_ms": 1,
        "due_ms": 2,
        "invocations": 3,
        "backoffs": 4,
        "error_code": 200,
        "error_message": "x",
        "source": "",
        "leased": False,
        "condition": None,
        "ended_ms": None,
        "redriven_ms": None,
    }
    assert document["events"][1]["condition"] == "RetriesExhausted"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("events?functoin=f", "In the query: Object contains unknown field `functoin`"),
        ("events/list?limit=0", "In the query: Expected `int` >= 1 - at `$.limit`"),
        ("events/list?limit=many", "In the query: Expected `int`, got `str` - at `$.limit`"),
        ("events/list?dead=perhaps", "In the query: Expected `bool`, got `str` - at `$.dead`"),
        ("metrics?since=1296001", "In the query: Expected `int` <= 1296000 - at `$.since`"),
        ("events?function=no%20name", "1 validation error detected: Value 'no name' at 'functionName' failed"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(target: str, message: str) -> None:
    status, document = World().get(target)
    assert status == 400
    assert document["message"].startswith(message)


@pytest.mark.parametrize(
    ("page", "body", "asked", "events"),
    [
        ("redrive", {}, ("redrive", Selection()), 3),
        ("redrive", {"function": "f", "ids": [5, 6]}, ("redrive", Selection(ARN, (5, 6))), 3),
        ("purge", {}, ("purge", Selection(), False), 4),
        ("purge", {"function": ARN, "dead": True, "ids": []}, ("purge", Selection(ARN), True), 4),
        ("purge", {"function": "f:1", "ids": [9]}, ("purge", Selection(f"{ARN}:1", (9,)), False), 4),
    ],
)
def test_what_is_done(page: str, body: dict[str, Any], asked: tuple[Any, ...], events: int) -> None:
    world = World()
    assert world.post(f"events/{page}", body) == (200, {"events": events})
    assert world.queue.asked == [asked]


@pytest.mark.parametrize(
    ("page", "body", "message"),
    [
        ("purge", b"", "In the body: Input data was truncated"),
        ("purge", b"{", "In the body: Input data was truncated"),
        ("purge", b'{"function": "\xff"}', "In the body: "),
        ("purge", b"[" * 100_000, "In the body: "),
        ("purge", b"[]", "In the body: Expected `object`, got `array`"),
        ("purge", b'{"function": null}', "In the body: Expected `str`, got `null` - at `$.function`"),
        ("purge", b'{"dead": 1}', "In the body: Expected `bool`, got `int` - at `$.dead`"),
        ("purge", b'{"ids": ["1"]}', "In the body: Expected `int`, got `str` - at `$.ids[0]`"),
        ("purge", b'{"ids": [0]}', "In the body: Expected `int` >= 1 - at `$.ids[0]`"),
        ("purge", b'{"ids": [9223372036854775808]}', "In the body: Expected `int` <= 9223372036854775807"),
        ("purge", b'{"all": true}', "In the body: Object contains unknown field `all`"),
        ("redrive", b'{"dead": true}', "In the body: Object contains unknown field `dead`"),
        ("redrive", b'{"function": "a b"}', "1 validation error detected"),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused(page: str, body: bytes, message: str) -> None:
    world = World()
    status, document = world.post(f"events/{page}", body)
    assert status == 400
    assert document["message"].startswith(message)
    assert world.queue.asked == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_web_page_cannot_post_without_being_asked(content_type: str) -> None:
    world = World()
    assert world.post("events/purge", {}, content_type) == (
        415,
        {"message": "The Content-Type has to be application/json"},
    )
    assert world.queue.asked == []


def test_json_may_say_its_encoding() -> None:
    assert World().post("events/purge", {}, "Application/JSON; charset=utf-8")[0] == 200


def test_a_large_body_is_refused() -> None:
    assert World().post("events/purge", b" " * (BODY_BYTES + 1))[0] == 413


def test_metrics_have_sums_and_minutes() -> None:
    world = World()
    minute_s = NOW_S // 60 * 60
    for value in (10.0, 30.0):
        world.metrics.count(ACCOUNT, REGION, "f", None, MetricName.ASYNC_EVENT_AGE, value)
    world.metrics.count(ACCOUNT, REGION, "g", "live", MetricName.ASYNC_EVENTS_RECEIVED)
    age = {"count": 2, "sum": 40.0, "average": 20.0, "minimum": 10.0, "maximum": 30.0}
    one = {"count": 1, "sum": 1.0, "average": 1.0, "minimum": 1.0, "maximum": 1.0}
    received = {"name": "AsyncEventsReceived", "unit": "Count", **one, "minutes": [{"minute_s": minute_s, **one}]}
    metrics = [
        {
            "function": "f",
            "resource": "",
            "name": "AsyncEventAge",
            "unit": "Milliseconds",
            **age,
            "minutes": [{"minute_s": minute_s, **age}],
        },
        {"function": "g", "resource": "", **received},
        {"function": "g", "resource": "g:live", **received},
    ]
    assert world.get("metrics") == (200, {"metrics": metrics})
    assert world.get("metrics?function=f")[1]["metrics"] == metrics[:1]
    assert world.get("metrics?name=AsyncEventsReceived&since=60")[1]["metrics"] == metrics[1:]
    assert world.get("metrics?since=1")[1]["metrics"] == []
    assert world.get("metrics?region=eu-west-1")[1]["metrics"] == []
    assert world.get("metrics?account_id=111111111111")[1]["metrics"] == []


def test_metrics_of_several_minutes_are_added() -> None:
    world = World()

    async def count() -> None:
        for _ in range(2):
            world.metrics.count(ACCOUNT, REGION, "f", None, MetricName.ASYNC_EVENTS_RECEIVED, 2.0)
            await world.metrics.flush()
            await world.metrics._clock.advance(60)

    asyncio.run(count())
    (metric,) = world.get("metrics")[1]["metrics"]
    assert (metric["sum"], metric["count"], [minute["sum"] for minute in metric["minutes"]]) == (4.0, 2, [2.0, 2.0])
