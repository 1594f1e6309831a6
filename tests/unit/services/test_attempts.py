"""What each outcome of an attempt comes to, on the in-memory adapters and a fake clock."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.adapters.memory_web import MemoryWeb
from lambdad.domain import quotas
from lambdad.domain.errors import ResourceNotFoundException, ServiceException, TooManyRequestsException
from lambdad.domain.events import Condition, Ending, Event, Purpose
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.retry_policy import BACKOFF_LONGEST_MS, DELIVERY_AGE_MS, DELIVERY_ATTEMPTS
from lambdad.domain.tracing import RECURSION_LIMIT, accepted_trace, trace_header
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable
from lambdad.services.attempts import DELIVERIES_AT_ONCE, ERROR_MESSAGE_CHARACTERS, Attempts
from lambdad.services.deliveries import Deliveries
from lambdad.services.dispatch_attempts import DispatchAttempts
from lambdad.services.event_invoke_configs import EventInvokeSettings
from lambdad.services.event_queue import Postponed
from lambdad.services.invoke import InvokeService
from unit.services.fakes import KEY, FakeHost, World, reference

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
LETTERS = "arn:aws:sqs:us-east-1:000000000000:letters"
SLOW_S = 2.0
FAILS = Outcome(b'{"errorMessage":"broken","errorType":"ValueError"}', "ValueError")
ODD_ERRORS = [
    (b'{"errorMessage":"","errorType":"E"}', ""),
    (b'{"errorMessage":7,"errorType":"E"}', "E"),
    (b'{"errorType":"E"}', "E"),
    (b'["errorMessage"]', "E"),
    (b"not json", "E"),
    (b"\xff\xfe", "E"),
    (b'{"errorMessage":"\\ud83d and \\ude00"}', "? and ?"),
    ('{"errorMessage":"' + "\u00fc" * 5000 + '"}', "\u00fc" * ERROR_MESSAGE_CHARACTERS),
    ("[" * 200_000, "E"),
]


def unheard() -> None:
    """Nobody asks when an attempt has begun."""


class ToldHost(FakeHost):
    """Does what it was told for each invocation in turn: answers, or raises."""

    def __init__(self) -> None:
        super().__init__()
        self.told: deque[Outcome | Exception] = deque()
        self.invocations: list[Invocation] = []

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        self.invocations.append(invocation)
        if invocation.begun is not None:
            invocation.begun()
        outcome = self.told.popleft() if self.told else await super().invoke(version, invocation)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


OF_INVOCATIONS = ("Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions")


class Surrounded(World):
    """A world with attempts, and neighbours that have two queues."""

    def __init__(self, delay_scale: float = 1.0) -> None:
        super().__init__()
        self.function = ToldHost()
        host: object = self.function
        self.invoke = InvokeService(self.targets, self.concurrency, host, self.clock, self.metrics)  # type: ignore[arg-type]
        self.neighbours = MemoryNeighbours([QUEUE, LETTERS])
        self.deliveries = Deliveries(self.neighbours)
        self.web = MemoryWeb()
        self.dispatches = DispatchAttempts(self.neighbours, self.web, self.clock, delay_scale)
        self.attempts = Attempts(
            self.invoke,
            self.deliveries,
            self.dispatches,
            self.metrics,
            self.clock,
            delay_scale,
            quotas.ASYNC_REQUEST_BYTES,
        )

    @property
    def now_ms(self) -> int:
        return int(self.clock.time() * 1000)

    def event(self, *, qualifier: str | None = None, age_ms: int = 0, payload: bytes = b"{}") -> Event:
        accepted_ms = self.now_ms - age_ms
        trace = accepted_trace(self.clock.time(), None, "ab" * 20)
        return Event(7, reference(qualifier).arn, "r", payload, accepted_ms, accepted_ms, trace=trace)

    def delivery(self, purpose: Purpose = Purpose.ON_FAILURE, age_ms: int = 0) -> Event:
        accepted_ms = self.now_ms - age_ms
        return Event(8, QUEUE, "r", b"{}", accepted_ms, accepted_ms, purpose, source=KEY.arn)

    async def configure(self, settings: EventInvokeSettings, qualifier: str | None = None) -> None:
        await self.event_invoke_configs.put(reference(qualifier), settings)

    async def ended(self, event: Event) -> Ending:
        result = await self.attempts.attempt(event, unheard)
        assert isinstance(result, Ending), result
        return result

    async def postponed(self, event: Event) -> Postponed:
        result = await self.attempts.attempt(event, unheard)
        assert isinstance(result, Postponed), result
        return result

    async def counted(self) -> dict[tuple[str, str], float]:
        """The sums of the metrics of events, by resource and name."""
        found = await self.metrics.read(KEY.account_id, KEY.region, function=None, name=None, since_s=0, until_s=2**40)
        sums: dict[tuple[str, str], float] = defaultdict(float)
        for key, statistics in found:
            if key.metric.name not in OF_INVOCATIONS:
                sums[dict(key.metric.dimensions).get("Resource", ""), key.metric.name] += statistics.total
        return dict(sums)


def scenario(test: Callable[[Surrounded], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in a world of its own."""

    def run() -> None:
        async def inside() -> None:
            await test(Surrounded())

        asyncio.run(inside())

    run.__name__ = getattr(test, "__name__", "scenario")
    run.__doc__ = test.__doc__
    return run


# Invocations


@scenario
async def test_a_success_is_the_end(w: Surrounded) -> None:
    await w.create()
    event = replace(w.event(age_ms=1500, payload=b'{"n":1}'), backoffs=3)
    ending = await w.ended(event)
    assert ending == Ending(replace(event, invocations=1, backoffs=0), Condition.SUCCESS, w.now_ms)
    (invocation,) = w.function.invocations
    assert (invocation.request_id, invocation.invoked_arn, invocation.payload) == ("r", KEY.arn, b'{"n":1}')
    assert await w.counted() == {("", "AsyncEventAge"): 1500.0}


@scenario
async def test_every_attempt_has_the_same_trace_and_runs_under_the_same_request_id(w: Surrounded) -> None:
    await w.create()
    w.function.told.extend([FAILS, FAILS])
    event = w.event()
    for _ in range(2):
        event = (await w.postponed(event)).event
        await w.clock.advance((event.due_ms - w.now_ms) / 1000)
    await w.ended(event)
    assert {invocation.request_id for invocation in w.function.invocations} == {"r"}
    assert len({invocation.trace_header for invocation in w.function.invocations}) == 1
    assert len(w.function.invocations) == 3


@scenario
async def test_an_error_of_the_function_is_retried_after_one_minute_and_two_more(w: Surrounded) -> None:
    await w.create(dead_letter_arn=LETTERS)
    w.function.told.extend([FAILS] * 3)
    first = await w.postponed(w.event())
    assert (first.event.invocations, first.event.due_ms, first.holds_lane) == (1, w.now_ms + 60_000, False)
    assert (first.event.error_code, first.event.error_message) == (200, "broken")
    await w.clock.advance(60)
    second = await w.postponed(first.event)
    assert (second.event.invocations, second.event.due_ms, second.holds_lane) == (2, w.now_ms + 120_000, False)
    await w.clock.advance(120)
    ending = await w.ended(second.event)
    assert (ending.condition, ending.event.invocations) == (Condition.RETRIES_EXHAUSTED, 3)
    (letter,) = ending.follow_ups
    assert (letter.lane, letter.purpose, letter.payload, letter.request_id) == (
        LETTERS,
        Purpose.DEAD_LETTER,
        b"{}",
        "r",
    )
    assert (letter.error_code, letter.error_message, letter.source) == (200, "broken", KEY.arn)
    assert (letter.id, letter.invocations, letter.accepted_ms, letter.due_ms) == (0, 0, w.now_ms, w.now_ms)
    assert await w.counted() == {
        ("", "AsyncEventAge"): 0 + 60_000 + 180_000,
        ("", "AsyncEventsDropped"): 1,
    }


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_configuration_says_how_often(retries: int) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        await w.create()
        await w.configure({"max_retry_attempts": retries})
        w.function.told.extend([FAILS] * (retries + 1))
        event = w.event()
        for _ in range(retries):
            event = (await w.postponed(event)).event
        assert (await w.ended(event)).condition is Condition.RETRIES_EXHAUSTED

    run()


@scenario
async def test_a_configuration_holds_for_what_is_invoked_by_its_qualifier(w: Surrounded) -> None:
    await w.create()
    await w.functions.publish(reference(), None, None, None)
    await w.aliases.create(reference(), "live", "1", "", {})
    await w.configure({"max_retry_attempts": 0, "on_failure": QUEUE}, "live")
    w.function.told.extend([FAILS] * 3)
    await w.postponed(w.event())
    await w.postponed(w.event(qualifier="1"))
    ending = await w.ended(w.event(qualifier="live"))
    assert [told.lane for told in ending.follow_ups] == [QUEUE]
    assert w.function.invocations[-1].invoked_arn == f"{KEY.arn}:live"
    counted = await w.counted()
    assert counted["f:live", "AsyncEventsDropped"] == counted["", "AsyncEventsDropped"] == 1


@scenario
async def test_a_success_goes_to_its_destination(w: Surrounded) -> None:
    await w.create(dead_letter_arn=LETTERS)
    await w.configure({"on_success": QUEUE, "on_failure": LETTERS})
    ending = await w.ended(w.event())
    assert [(told.lane, told.purpose) for told in ending.follow_ups] == [(QUEUE, Purpose.ON_SUCCESS)]


@scenario
async def test_the_scale_makes_the_waits_shorter(w: Surrounded) -> None:
    w.attempts = Attempts(w.invoke, w.deliveries, w.dispatches, w.metrics, w.clock, 0.001, quotas.ASYNC_REQUEST_BYTES)
    await w.create()
    w.function.told.extend([FAILS, TooManyRequestsException("Rate Exceeded.")])
    assert (await w.postponed(w.event())).event.due_ms == w.now_ms + 60
    assert (await w.postponed(replace(w.event(), backoffs=6))).event.due_ms == w.now_ms + 64


@scenario
async def test_a_throttle_holds_the_lane_and_counts_for_no_attempt(w: Surrounded) -> None:
    await w.create()
    w.function.told.append(TooManyRequestsException("Rate Exceeded."))
    throttled = await w.postponed(replace(w.event(), invocations=1))
    assert throttled.holds_lane
    assert (throttled.event.invocations, throttled.event.backoffs) == (1, 1)
    assert throttled.event.due_ms == w.now_ms + 1_000
    assert (throttled.event.error_code, throttled.event.error_message) == (429, "Rate Exceeded.")
    assert await w.counted() == {}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(ServiceException("no room"), 500, "no room"), (StoreUnavailable("disk full"), 500, "disk full")],
)
def test_an_error_of_the_system_holds_the_lane_too(error: Exception, code: int, message: str) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        await w.create()
        w.function.told.append(error)
        later = await w.postponed(replace(w.event(), backoffs=20))
        assert later.holds_lane
        assert (later.event.invocations, later.event.backoffs) == (0, 21)
        assert later.event.due_ms == w.now_ms + BACKOFF_LONGEST_MS
        assert (later.event.error_code, later.event.error_message) == (code, message)

    run()


@scenario
async def test_a_store_that_cannot_be_read_is_an_error_of_the_system(w: Surrounded) -> None:
    await w.create()
    w.targets.forget(KEY)

    async def unreadable(work: object) -> None:
        raise StoreUnavailable("disk gone")

    w.store.read = unreadable  # type: ignore[method-assign,assignment]
    later = await w.postponed(w.event())
    assert later.holds_lane
    assert (later.event.error_code, later.event.error_message) == (500, "disk gone")


@scenario
async def test_throttles_go_on_until_the_event_is_too_old(w: Surrounded) -> None:
    await w.create(dead_letter_arn=LETTERS)
    await w.configure({"max_event_age_s": 60})
    w.function.told.extend([TooManyRequestsException("Rate Exceeded.")] * 100)
    event, waits = w.event(), []
    result: Ending | Postponed = await w.attempts.attempt(event, unheard)
    while isinstance(result, Postponed):
        waits.append(result.event.due_ms - w.now_ms)
        await w.clock.advance(waits[-1] / 1000)
        result = await w.attempts.attempt(result.event, unheard)
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 29_000]
    assert (result.condition, result.ended_ms) == (Condition.EVENT_AGE_EXCEEDED, event.accepted_ms + 60_000)
    assert result.event.invocations == 0
    (letter,) = result.follow_ups
    assert (letter.error_code, letter.error_message) == (429, "Rate Exceeded.")
    assert await w.counted() == {("", "AsyncEventsDropped"): 1}


@scenario
async def test_an_event_that_is_too_old_is_not_attempted(w: Surrounded) -> None:
    await w.create()
    await w.configure({"max_event_age_s": 60, "on_failure": QUEUE})
    ending = await w.ended(w.event(age_ms=60_000))
    assert (ending.condition, ending.event.invocations) == (Condition.EVENT_AGE_EXCEEDED, 0)
    assert [told.purpose for told in ending.follow_ups] == [Purpose.ON_FAILURE]
    assert not w.function.invocations
    assert (await w.ended(w.event(age_ms=59_999))).condition is Condition.SUCCESS


@scenario
async def test_without_a_configuration_events_live_for_six_hours(w: Surrounded) -> None:
    await w.create()
    oldest_ms = quotas.ASYNC_EVENT_AGE_S_MAX * 1000
    assert (await w.ended(w.event(age_ms=oldest_ms))).condition is Condition.EVENT_AGE_EXCEEDED
    assert (await w.ended(w.event(age_ms=oldest_ms - 1))).condition is Condition.SUCCESS


@scenario
async def test_nothing_is_attempted_with_zero_concurrency(w: Surrounded) -> None:
    await w.create(dead_letter_arn=LETTERS)
    await w.concurrency.put(reference(), 0)
    ending = await w.ended(w.event())
    assert (ending.condition, ending.event.invocations) == (Condition.ZERO_RESERVED_CONCURRENCY, 0)
    assert [(letter.error_code, letter.error_message) for letter in ending.follow_ups] == [(429, "Rate Exceeded.")]
    assert not w.function.invocations
    assert await w.counted() == {("", "AsyncEventsDropped"): 1}


@scenario
async def test_a_function_that_is_gone_ends_its_events(w: Surrounded) -> None:
    ending = await w.ended(w.event())
    assert (ending.condition, ending.follow_ups) == (Condition.FUNCTION_NOT_FOUND, ())
    assert (ending.event.error_code, ending.event.error_message) == (404, f"Function not found: {KEY.arn}")
    await w.create()
    w.function.told.append(ResourceNotFoundException("deleted while it was to start"))
    assert (await w.ended(w.event())).condition is Condition.FUNCTION_NOT_FOUND
    assert await w.counted() == {("", "AsyncEventsDropped"): 2}


@scenario
async def test_a_loop_is_stopped_and_told_of(w: Surrounded) -> None:
    await w.create(dead_letter_arn=LETTERS)
    await w.configure({"on_failure": QUEUE})
    event = w.event()
    mark = (await w.invoke.target(reference())).mark
    for _ in range(RECURSION_LIMIT):
        event = replace(event, trace=trace_header(0, event.trace, "cd" * 20, active=False, mark=mark)[0])
    ending = await w.ended(event)
    assert (ending.condition, ending.event.invocations) == (Condition.RECURSIVE_INVOCATION, 0)
    assert [(told.lane, told.error_code) for told in ending.follow_ups] == [(QUEUE, 400), (LETTERS, 400)]
    assert not w.function.invocations
    assert await w.counted() == {("", "AsyncEventsDropped"): 1, ("", "RecursiveInvocationsDropped"): 1}
    await w.functions.put_recursion_config(reference(), "Allow")
    assert (await w.ended(event)).condition is Condition.SUCCESS


@pytest.mark.parametrize(("payload", "kept"), ODD_ERRORS, ids=range(len(ODD_ERRORS)))
def test_whatever_a_function_answers_its_error_can_be_kept(payload: bytes | str, kept: str) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        await w.create()
        answered = payload if isinstance(payload, bytes) else payload.encode()
        w.function.told.append(Outcome(answered, "E"))
        later = await w.postponed(w.event())
        assert (later.event.error_code, later.event.error_message) == (200, kept)
        later.event.error_message.encode()

    run()


@scenario
async def test_the_age_is_taken_before_the_function_runs(w: Surrounded) -> None:
    """AsyncEventAge is the time from acceptance to the invocation, and not what that takes."""
    await w.create()
    w.function.holds = True
    running = asyncio.ensure_future(w.ended(w.event(age_ms=10)))
    await w.clock.advance(SLOW_S)
    w.function.waiting[0].set_result(None)
    ending = await running
    assert ending.ended_ms == w.now_ms
    assert await w.counted() == {("", "AsyncEventAge"): 10.0}


# Deliveries


@scenario
async def test_a_delivery_is_made(w: Surrounded) -> None:
    ending = await w.ended(w.delivery())
    assert (ending.condition, ending.event.invocations, ending.follow_ups) == (Condition.DELIVERED, 1, ())
    assert [call.operation for call in w.neighbours.calls] == ["GetQueueUrl", "SendMessage"]
    assert await w.counted() == {}


@scenario
async def test_a_target_that_is_away_is_waited_for(w: Surrounded) -> None:
    w.neighbours.failure = NeighbourUnavailable("sqs does not answer")
    later = await w.postponed(w.delivery())
    assert later.holds_lane
    assert (later.event.invocations, later.event.backoffs, later.event.due_ms) == (0, 1, w.now_ms + 1_000)
    assert (later.event.error_code, later.event.error_message) == (500, "sqs does not answer")
    await w.clock.advance(1)
    again = await w.postponed(later.event)
    assert (again.event.backoffs, again.event.due_ms) == (2, w.now_ms + 2_000)
    w.neighbours.failure = None
    assert (await w.ended(again.event)).condition is Condition.DELIVERED
    assert await w.counted() == {}


@scenario
async def test_a_dead_letter_carries_what_went_wrong_with_its_event_whatever_goes_wrong_with_itself(
    w: Surrounded,
) -> None:
    letter = replace(w.delivery(Purpose.DEAD_LETTER), error_code=200, error_message="broken")
    deliver = w.deliveries.deliver

    async def broken(_: Event) -> None:
        raise KeyError("a fault")

    w.deliveries.deliver = broken  # type: ignore[method-assign]
    letter = (await w.postponed(letter)).event
    w.deliveries.deliver = deliver  # type: ignore[method-assign]
    for failure in (NeighbourUnavailable("sqs does not answer"), NeighbourRefused("AccessDenied", "you may not", 403)):
        w.neighbours.failure = failure
        letter = (await w.postponed(letter)).event
    w.neighbours.failure = None
    assert (await w.ended(letter)).condition is Condition.DELIVERED
    sent = w.neighbours.calls[-1].parameters["MessageAttributes"]
    assert (sent["ErrorCode"]["StringValue"], sent["ErrorMessage"]["StringValue"]) == ("200", "broken")


PURPOSES = [
    (Purpose.DEAD_LETTER, "DeadLetterErrors"),
    (Purpose.ON_SUCCESS, "DestinationDeliveryFailures"),
    (Purpose.ON_FAILURE, "DestinationDeliveryFailures"),
]


@pytest.mark.parametrize(("purpose", "metric"), PURPOSES)
def test_a_target_that_refuses_gets_three_attempts(
    purpose: Purpose, metric: str, caplog: pytest.LogCaptureFixture
) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        w.neighbours.failure = NeighbourRefused("AccessDenied", "you may not", 403)
        event, waits = replace(w.delivery(purpose), error_code=200, error_message="broken"), []
        is_letter = purpose is Purpose.DEAD_LETTER
        kept = (200, "broken") if is_letter else (403, "AccessDenied: you may not")
        result: Ending | Postponed = await w.attempts.attempt(event, unheard)
        while isinstance(result, Postponed):
            assert not result.holds_lane
            waits.append(result.event.due_ms - w.now_ms)
            assert len(waits) < DELIVERY_ATTEMPTS
            result = await w.attempts.attempt(result.event, unheard)
        assert waits == [1_000, 2_000]
        assert (result.condition, result.event.invocations) == (Condition.REFUSED, DELIVERY_ATTEMPTS)
        assert (result.event.error_code, result.event.error_message) == kept
        assert await w.counted() == {("", metric): 1}

    run()
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"{purpose} of {KEY.arn} (request r) cannot be sent to {QUEUE}: AccessDenied: you may not"
    )


@pytest.mark.parametrize(("purpose", "metric"), PURPOSES)
def test_a_target_that_stays_away_is_given_up(purpose: Purpose, metric: str, caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        w.neighbours.failure = NeighbourUnavailable("sqs does not answer")
        almost = await w.postponed(replace(w.delivery(purpose, DELIVERY_AGE_MS - 40), backoffs=30))
        assert almost.event.due_ms == w.now_ms + 40
        await w.clock.advance(0.04)
        ending = await w.ended(almost.event)
        assert (ending.condition, ending.event.invocations) == (Condition.EVENT_AGE_EXCEEDED, 0)
        assert await w.counted() == {("", metric): 1}

    run()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@scenario
async def test_failed_deliveries_are_counted_for_the_qualifier_of_the_function(w: Surrounded) -> None:
    w.neighbours.failure = NeighbourRefused("AccessDenied", "you may not", 403)
    delivery = replace(w.delivery(), source=f"{KEY.arn}:live", invocations=DELIVERY_ATTEMPTS - 1)
    await w.ended(delivery)
    assert await w.counted() == {
        ("", "DestinationDeliveryFailures"): 1,
        ("f:live", "DestinationDeliveryFailures"): 1,
    }


@pytest.mark.parametrize("is_delivery", [False, True])
def test_a_fault_of_ours_postpones(is_delivery: bool, caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def run(w: Surrounded) -> None:
        await w.create()

        async def broken(*_: object) -> None:
            raise KeyError("a fault")

        w.deliveries.deliver = w.function.invoke = broken  # type: ignore[method-assign,assignment]
        event = w.delivery() if is_delivery else w.event()
        later = await w.postponed(replace(event, backoffs=1))
        assert not later.holds_lane
        assert (later.event.backoffs, later.event.due_ms) == (2, w.now_ms + 2_000)
        assert (later.event.error_code, later.event.error_message) == (500, "KeyError('a fault')")

        ended = await w.ended(replace(event, accepted_ms=w.now_ms - 6 * 3_600_000))
        assert ended.condition is Condition.EVENT_AGE_EXCEEDED

    run()
    assert "KeyError: 'a fault'" in caplog.text


# How much at once


@scenario
async def test_a_reservation_bounds_a_lane_once_it_is_known(w: Surrounded) -> None:
    await w.create()
    await w.concurrency.put(reference(), 3)
    assert w.attempts.concurrency(KEY.arn) is None
    await w.ended(w.event())
    assert w.attempts.concurrency(KEY.arn) == 3
    assert w.attempts.concurrency(QUEUE) == DELIVERIES_AT_ONCE


@scenario
async def test_how_old_the_events_of_a_lane_may_become(w: Surrounded) -> None:
    await w.create()
    assert w.attempts.max_age_ms(f"{KEY.arn}:unknown") is None
    assert w.attempts.max_age_ms(KEY.arn) == quotas.ASYNC_EVENT_AGE_S_MAX * 1000
    await w.configure({"max_event_age_s": 60})
    await w.ended(w.event())
    assert w.attempts.max_age_ms(KEY.arn) == 60_000
    assert w.attempts.max_age_ms(QUEUE) == DELIVERY_AGE_MS


@scenario
async def test_an_attempt_that_was_let_in_says_so_while_it_runs(w: Surrounded) -> None:
    begun: list[str] = []

    async def attempt(event: Event) -> None:
        await w.attempts.attempt(event, lambda: begun.append(event.request_id))

    await w.create()
    await w.concurrency.put(reference(), 1)
    w.function.holds = True
    running = asyncio.ensure_future(attempt(replace(w.event(), request_id="let in")))
    await w.clock.advance(0)
    assert begun == ["let in"]
    await attempt(replace(w.event(), request_id="throttled"))
    await attempt(replace(w.delivery(), request_id="delivery"))
    w.function.waiting[0].set_result(None)
    await running
    assert begun == ["let in", "delivery"]
