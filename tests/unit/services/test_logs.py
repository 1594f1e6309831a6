"""The Logs service, on the in-memory store and a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from lambdad.adapters.clock import FakeClock, SystemClock
from lambdad.adapters.memory_logs import MemoryLogStore
from lambdad.adapters.sqlite_logs import SqliteLogStore
from lambdad.domain.errors import ServiceError
from lambdad.domain.logs import BATCH_BYTES, DAY_MS, EVENT_BYTES, EventBatch, GroupKey, ServiceUnavailableException
from lambdad.services import log_buffer
from lambdad.services.logs import Filter, LogsService

ACCOUNT, REGION, GROUP = "111122223333", "us-east-1", "/aws/lambda/f"
KEY = GroupKey(ACCOUNT, REGION, GROUP)
NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000


class Store(MemoryLogStore):
    """Counts what it is asked, and can fail or wait."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.batches: list[tuple[str, list[str]]] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, batches: Sequence[EventBatch], *, create: bool) -> None:
        await self.gate.wait()
        if self.broken:
            raise ServiceUnavailableException("The service cannot complete the request: disk full")
        self.appends.append(sum(len(batch.events) for batch in batches))
        self.batches += [(batch.stream, [message for _, message in batch.events]) for batch in batches]
        await super().append(batches, create=create)


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.clock = FakeClock(NOW_MS / 1000)
        self.logs = LogsService(self.store, self.clock)

    def append(self, *lines: str, stream: str = "s", at_ms: int = NOW_MS) -> None:
        self.logs.append(ACCOUNT, REGION, GROUP, stream, [(at_ms, line) for line in lines])

    async def stored(self) -> list[str]:
        """What is in the store, without going through the service."""
        group = self.store._groups.get(KEY)
        return [] if group is None else [event.message for event in group.events]

    async def read(self, stream: str = "s") -> list[str]:
        page = await self.logs.get_log_events(KEY, stream, start_from_head=True)
        return [event.message for event in page.events]

    async def found(self, pattern: str = "", **wanted: object) -> list[str]:
        page = await self.logs.filter_log_events(KEY, Filter(pattern=pattern, **wanted))  # type: ignore[arg-type]
        return [event.message for event in page.events]


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def in_world() -> None:
        await asyncio.wait_for(test(World()), 30)

    asyncio.run(in_world())


def refused(code: str, text: str) -> pytest.RaisesExc[ServiceError]:
    return pytest.raises(ServiceError, check=lambda error: error.code == code and text in error.message)


# What functions print.


def test_appended_lines_are_written_within_half_a_second() -> None:
    async def test(world: World) -> None:
        world.append("one", "two")
        world.append("three", stream="t")
        assert world.logs.pending_bytes > 0
        await world.clock.advance(0.2)
        assert await world.stored() == []
        await world.clock.advance(0.3)
        assert await world.stored() == ["one", "two", "three"]
        assert world.logs.pending_bytes == 0
        assert world.store.appends == [3]
        world.append("four")
        await world.clock.advance(0.5)
        assert await world.stored() == ["one", "two", "three", "four"]

    run(test)


def test_much_is_written_without_waiting() -> None:
    async def test(world: World) -> None:
        world.append(*["x" * 1000] * 1200)
        await world.clock.advance(0)
        assert len(await world.stored()) == 1200

    run(test)


def test_a_read_sees_what_was_appended_before_it() -> None:
    async def test(world: World) -> None:
        world.append("one")
        assert await world.read() == ["one"]
        world.append("two")
        assert await world.found() == ["one", "two"]
        world.append("three", stream="t")
        page = await world.logs.log_streams(KEY)
        assert [stream.name for stream in page.streams] == ["s", "t"]
        world.append("four")
        assert (await world.logs.log_group(KEY)).stored_bytes == len("onetwothreefour") + 4 * 26
        groups = await world.logs.log_groups(ACCOUNT, REGION)
        assert [group.key for group in groups.groups] == [KEY]

    run(test)


def test_a_reader_that_goes_away_interrupts_no_write() -> None:
    async def test(world: World) -> None:
        world.store.gate.clear()
        world.append("one")
        reader = asyncio.create_task(world.read())
        await world.clock.advance(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        world.append("two")
        world.store.gate.set()
        assert await world.read() == ["one", "two"]

    run(test)


def test_what_was_printed_before_a_deletion_does_not_bring_the_group_back() -> None:
    async def test(world: World) -> None:
        world.append("one")
        await world.logs.delete_log_group(KEY)
        await world.clock.advance(1)
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await world.logs.log_group(KEY)
        world.append("two")
        assert await world.read() == ["two"]

    run(test)


def test_large_transactions_are_divided() -> None:
    async def test(world: World) -> None:
        for _ in range(12):
            world.append(*["x" * 10_000] * 100)
        await world.read()
        assert sum(world.store.appends) == 1200
        assert max(world.store.appends) * 10_000 <= log_buffer.TRANSACTION_BYTES

    run(test)


def test_writers_are_held_back_while_too_much_is_pending() -> None:
    async def test(world: World) -> None:
        world.store.gate.clear()
        while world.logs.pending_bytes < log_buffer.PENDING_BYTES:
            world.append("x" * 1_000_000)
        waiting = asyncio.create_task(world.logs.drained())
        await world.clock.advance(5)
        assert not waiting.done()
        world.store.gate.set()
        await waiting
        assert world.logs.pending_bytes < log_buffer.PENDING_BYTES
        await world.logs.drained()

    run(test)


def test_a_store_that_cannot_be_written_stops_nobody_and_is_tried_again() -> None:
    async def test(world: World) -> None:
        world.store.broken = True
        world.append("kept")
        await world.clock.advance(0.5)
        with refused("ServiceUnavailableException", "disk full"):
            await world.read()
        while world.logs.discarded_events == 0:
            world.append("x" * 1_000_000)
            await asyncio.wait_for(world.logs.drained(), 1)
        assert world.logs.pending_bytes <= log_buffer.PENDING_BYTES + 1_000_200
        world.store.broken = False
        await world.clock.advance(2)
        stored = await world.stored()
        assert stored[0] == "kept"
        assert len(stored) >= 15
        assert world.logs.pending_bytes == 0
        world.append("after")
        await world.logs.log_group(KEY)
        assert await world.stored() == [*stored, "after"]
        assert world.logs.discarded_events == 1

    run(test)


def test_closing_writes_what_is_left() -> None:
    async def test(world: World) -> None:
        world.append("one")
        await world.logs.close()
        assert await world.stored() == ["one"]
        await world.logs.close()

    run(test)


def test_closing_says_when_it_cannot_write() -> None:
    async def test(world: World) -> None:
        world.append("one")
        world.store.broken = True
        with refused("ServiceUnavailableException", "disk full"):
            await world.logs.close()

    run(test)


def test_lines_are_made_fit_to_be_stored() -> None:
    async def test(world: World) -> None:
        world.append("", "half \ud800 pair", "x" * (EVENT_BYTES + 10), "é" * EVENT_BYTES)
        await world.read()
        stored = await world.stored()
        assert stored[0] == "half ? pair"
        assert "".join(stored[1:]) == "x" * (EVENT_BYTES + 10) + "é" * EVENT_BYTES
        assert all(0 < len(text.encode()) + 26 <= EVENT_BYTES for text in stored)

    run(test)


@pytest.mark.parametrize("line", ["x" * 600_000, "é" * 200_000, "漢 fits\n"])
def test_lines_that_fit_are_stored_as_they_are_however_many_come_together(line: str) -> None:
    async def test(world: World) -> None:
        world.append(*[line] * 4)
        assert world.logs.pending_bytes == 4 * (len(line) + log_buffer.EVENT_MEMORY_BYTES)
        await world.logs.log_group(KEY)
        assert await world.stored() == [line] * 4
        assert world.logs.pending_bytes == 0

    run(test)


def test_what_a_stream_has_at_a_flush_is_handed_over_as_one_batch() -> None:
    async def test(world: World) -> None:
        for number in range(3):
            world.append(f"a{number}", stream="a")
            world.append(f"b{number}", stream="b")
        await world.logs.log_group(KEY)
        assert world.store.batches == [("a", ["a0", "a1", "a2"]), ("b", ["b0", "b1", "b2"])]

    run(test)


def test_on_disk_within_a_second_by_the_real_clock(tmp_path: Path) -> None:
    async def test() -> None:
        store = SqliteLogStore(tmp_path)
        logs = LogsService(store, SystemClock())
        logs.append(ACCOUNT, REGION, GROUP, "s", [(NOW_MS, "one")])
        async with asyncio.timeout(1):
            while logs.pending_bytes:
                await asyncio.sleep(0.01)
        assert (await store.group(KEY)) is not None
        await logs.close()
        await store.close()

    asyncio.run(test())


# Groups.


def test_groups() -> None:
    async def test(world: World) -> None:
        logs = world.logs
        await logs.create_log_group(KEY, tags={"a": "1"}, log_group_class="INFREQUENT_ACCESS")
        group = await logs.log_group(KEY)
        assert (group.created_ms, group.tags, group.log_group_class) == (NOW_MS, {"a": "1"}, "INFREQUENT_ACCESS")
        with refused("ResourceAlreadyExistsException", "The specified log group already exists"):
            await logs.create_log_group(KEY)
        with refused("InvalidParameterException", "reserved for AWS"):
            await logs.create_log_group(GroupKey(ACCOUNT, REGION, "aws/x"))
        with refused("InvalidParameterException", "DELIVERY"):
            await logs.create_log_group(GroupKey(ACCOUNT, REGION, "x"), log_group_class="DELIVERY")
        await logs.tag(KEY, {"a": "2", "b": "3"})
        await logs.untag(KEY, ["a", "none"])
        assert (await logs.log_group(KEY)).tags == {"b": "3"}
        await logs.tag(KEY, {f"t{number}": "" for number in range(49)})
        with refused("TooManyTagsException", "50"):
            await logs.tag(KEY, {"one more": ""})
        assert len((await logs.log_group(KEY)).tags) == 50

    run(test)


def test_a_protected_group_and_its_streams_are_not_deleted() -> None:
    async def test(world: World) -> None:
        await world.logs.create_log_group(KEY, deletion_protected=True)
        world.append("one")
        for deletion in (world.logs.delete_log_group(KEY), world.logs.delete_log_stream(KEY, "s")):
            with refused("ValidationException", "Deletion protection"):
                await deletion
        await world.logs.put_deletion_protection(KEY, False)
        await world.logs.delete_log_stream(KEY, "s")
        await world.logs.delete_log_group(KEY)

    run(test)


def test_paging_through_groups_with_a_filter() -> None:
    async def test(world: World) -> None:
        for number in range(30):
            await world.logs.create_log_group(GroupKey(ACCOUNT, REGION, f"g{number:02}"))
        names: list[str] = []
        token, pages = None, 0
        while pages == 0 or token is not None:
            page = await world.logs.log_groups(
                ACCOUNT,
                REGION,
                keep=lambda group: group.key.name[-1] in "05",
                asked="05",
                next_token=token,
                limit=2,
            )
            names += [group.key.name for group in page.groups]
            token, pages = page.next_token, pages + 1
        assert names == ["g00", "g05", "g10", "g15", "g20", "g25"]
        assert pages == 3
        page = await world.logs.log_groups(ACCOUNT, REGION, limit=2)
        for other in ({"prefix": "g"}, {"asked": "05"}):
            with refused("InvalidParameterException", "The specified nextToken is invalid."):
                await world.logs.log_groups(ACCOUNT, REGION, next_token=page.next_token, **other)  # type: ignore[arg-type]
        await world.clock.advance(24 * 3600)
        with refused("InvalidParameterException", "The specified nextToken is invalid."):
            await world.logs.log_groups(ACCOUNT, REGION, next_token=page.next_token)

    run(test)


# Retention.


def test_retention() -> None:
    async def test(world: World) -> None:
        world.append("old", at_ms=NOW_MS - 2 * DAY_MS)
        world.append("edge", at_ms=NOW_MS - DAY_MS)
        world.append("new")
        assert await world.found() == ["old", "edge", "new"]
        with refused("InvalidParameterException", "2192"):
            await world.logs.put_retention_policy(KEY, 2)
        await world.logs.put_retention_policy(KEY, 1)
        assert await world.found() == ["edge", "new"]
        assert await world.read() == ["edge", "new"]
        assert await world.stored() == ["old", "edge", "new"]
        await world.clock.advance(1)
        assert await world.found() == ["new"]
        assert await world.logs.expire() == 2
        assert await world.stored() == ["new"]
        await world.logs.put_retention_policy(KEY, None)
        await world.clock.advance(100 * 24 * 3600)
        assert await world.logs.expire() == 0
        assert await world.found() == ["new"]

    run(test)


# PutLogEvents.


async def with_stream(world: World) -> None:
    await world.logs.create_log_group(KEY)
    await world.logs.create_log_stream(KEY, "s")


def test_putting_events() -> None:
    async def test(world: World) -> None:
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await world.logs.put_log_events(KEY, "s", [(NOW_MS, "x")])
        await world.logs.create_log_group(KEY)
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await world.logs.put_log_events(KEY, "s", [(NOW_MS, "x")])
        await world.logs.create_log_stream(KEY, "s")
        accepted = await world.logs.put_log_events(KEY, "s", [(NOW_MS, "x"), (NOW_MS + 1, "\udc00")])
        assert accepted.rejected == {}
        assert await world.stored() == ["x", "?"]

    run(test)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(NOW_MS, "x"), (NOW_MS - 1, "y")], "must be in chronological order."),
        ([(NOW_MS, "x" * (EVENT_BYTES - 25))], "Log event too large: 1048577 bytes exceeds limit of 1048576"),
        ([(NOW_MS, "é" * 262_144)] * 2, f"Upload too large: {2 * (524_288 + 26)} bytes exceeds limit of {BATCH_BYTES}"),
        ([(NOW_MS - DAY_MS - 1, "x"), (NOW_MS, "y")], "cannot span more than 24 hours."),
    ],
)
def test_a_batch_that_is_refused_as_a_whole(events: list[tuple[int, str]], message: str) -> None:
    async def test(world: World) -> None:
        await with_stream(world)
        with refused("InvalidParameterException", message):
            await world.logs.put_log_events(KEY, "s", events)
        assert await world.stored() == []

    run(test)


def test_the_largest_batch_is_taken() -> None:
    async def test(world: World) -> None:
        await with_stream(world)
        await world.logs.put_log_events(KEY, "s", [(NOW_MS, "x" * (EVENT_BYTES - 26))])
        await world.logs.put_log_events(KEY, "s", [(NOW_MS - DAY_MS, "x"), (NOW_MS, "y")])
        assert len(await world.stored()) == 3

    run(test)


@pytest.mark.parametrize(
    ("retention_days", "events", "stored", "rejected"),
    [
        (None, [-14 * DAY_MS - 1, 0], [1], {"tooOldLogEventEndIndex": 1}),
        (None, [-14 * DAY_MS], [0], {}),
        (None, [0, 120 * MINUTE_MS, 120 * MINUTE_MS + 1, 200 * MINUTE_MS], [0, 1], {"tooNewLogEventStartIndex": 2}),
        (1, [-2 * DAY_MS, -DAY_MS - 1, -DAY_MS], [2], {"expiredLogEventEndIndex": 2}),
        (1, [-15 * DAY_MS, -2 * DAY_MS, 0], [2], {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2}),
        (None, [-20 * DAY_MS, -15 * DAY_MS], [], {"tooOldLogEventEndIndex": 2}),
        (None, [200 * MINUTE_MS], [], {"tooNewLogEventStartIndex": 0}),
    ],
)
def test_single_events_that_are_rejected(
    retention_days: int | None, events: list[int], stored: list[int], rejected: dict[str, int]
) -> None:
    async def test(world: World) -> None:
        await with_stream(world)
        await world.logs.put_retention_policy(KEY, retention_days)
        batch = [(NOW_MS + offset, f"{number}") for number, offset in enumerate(events)]
        accepted = await world.logs.put_log_events(KEY, "s", batch)
        assert accepted.rejected == rejected
        assert await world.stored() == [f"{number}" for number in stored]

    run(test)


# GetLogEvents.


def test_paging_forward_ends_with_the_token_that_was_passed() -> None:
    async def test(world: World) -> None:
        world.append(*(f"{number}" for number in range(25)))
        token, pages = None, []
        while True:
            page = await world.logs.get_log_events(KEY, "s", limit=10, start_from_head=True, next_token=token)
            if page.next_forward_token == token:
                break
            pages.append([event.message for event in page.events])
            token = page.next_forward_token
        assert [len(found) for found in pages] == [10, 10, 5]
        assert [text for found in pages for text in found] == [f"{number}" for number in range(25)]
        assert page.events == []
        back = await world.logs.get_log_events(KEY, "s", limit=3, next_token=page.next_backward_token)
        assert [event.message for event in back.events] == ["22", "23", "24"]
        world.append("more")
        page = await world.logs.get_log_events(KEY, "s", next_token=token)
        assert [event.message for event in page.events] == ["more"]

    run(test)


def test_paging_backward_from_the_end() -> None:
    async def test(world: World) -> None:
        world.append(*(f"{number}" for number in range(25)))
        page = await world.logs.get_log_events(KEY, "s", limit=10)
        found = [[event.message for event in page.events]]
        newest = page.next_forward_token
        while True:
            token = page.next_backward_token
            page = await world.logs.get_log_events(KEY, "s", limit=10, next_token=token)
            if page.next_backward_token == token:
                break
            found.append([event.message for event in page.events])
        assert [(texts[0], texts[-1]) for texts in found] == [("15", "24"), ("5", "14"), ("0", "4")]
        forth = await world.logs.get_log_events(KEY, "s", limit=2, next_token=page.next_forward_token)
        assert [event.message for event in forth.events] == ["0", "1"]
        assert (await world.logs.get_log_events(KEY, "s", next_token=newest)).events == []

    run(test)


def test_an_empty_stream_has_tokens_that_find_what_comes_later() -> None:
    async def test(world: World) -> None:
        await with_stream(world)
        for start_from_head in (True, False):
            page = await world.logs.get_log_events(KEY, "s", start_from_head=start_from_head)
            assert page.events == []
            assert page.next_forward_token.startswith("f/")
            assert page.next_backward_token.startswith("b/")
            assert len(page.next_forward_token) == len("f/") + 56 + len("/s")
        world.append("one")
        later = await world.logs.get_log_events(KEY, "s", next_token=page.next_forward_token)
        assert [event.message for event in later.events] == ["one"]
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await world.logs.get_log_events(KEY, "none")

    run(test)


def test_start_is_included_and_end_is_not() -> None:
    async def test(world: World) -> None:
        for offset in range(5):
            world.append(f"{offset}", at_ms=NOW_MS + offset)
        page = await world.logs.get_log_events(KEY, "s", start_ms=NOW_MS + 1, end_ms=NOW_MS + 3, start_from_head=True)
        assert [event.message for event in page.events] == ["1", "2"]
        page = await world.logs.get_log_events(KEY, "s", start_ms=NOW_MS + 4, end_ms=2**63 - 1)
        assert [event.message for event in page.events] == ["4"]

    run(test)


@pytest.mark.parametrize(
    "token", ["x", "f/1/s", "f/" + "9" * 56 + "/s", "f/" + "0" * 55 + "/s", "g/" + "0" * 56 + "/s"]
)
def test_tokens_that_are_none(token: str) -> None:
    async def test(world: World) -> None:
        await with_stream(world)
        with refused("InvalidParameterException", "The specified nextToken is invalid."):
            await world.logs.get_log_events(KEY, "s", next_token=token)

    run(test)


def test_a_page_holds_a_megabyte() -> None:
    async def test(world: World) -> None:
        world.append(*["x" * 100_000] * 25)
        page = await world.logs.get_log_events(KEY, "s", start_from_head=True)
        assert len(page.events) == 10
        found = await world.logs.filter_log_events(KEY, Filter())
        assert sum(event.size for event in found.events) <= 1024 * 1024
        assert found.next_token is not None

    run(test)


# FilterLogEvents.


def test_filtering() -> None:
    async def test(world: World) -> None:
        world.append("ERROR 1", "INFO 2", stream="a/1", at_ms=NOW_MS)
        world.append("ERROR 3", stream="a/2", at_ms=NOW_MS + 5)
        world.append("ERROR 4", stream="b", at_ms=NOW_MS + 2)
        assert await world.found() == ["ERROR 1", "INFO 2", "ERROR 4", "ERROR 3"]
        assert await world.found("ERROR") == ["ERROR 1", "ERROR 4", "ERROR 3"]
        assert await world.found("ERROR", prefix="a/") == ["ERROR 1", "ERROR 3"]
        assert await world.found(streams=["b", "a/2"]) == ["ERROR 4", "ERROR 3"]
        assert await world.found(start_ms=NOW_MS + 2, end_ms=NOW_MS + 5) == ["ERROR 4", "ERROR 3"]
        assert await world.found(start_ms=NOW_MS + 3, end_ms=NOW_MS + 4) == []
        assert await world.found(end_ms=2**63 - 1) == ["ERROR 1", "INFO 2", "ERROR 4", "ERROR 3"]
        with refused("InvalidParameterException", "Invalid character(s) in term ':'"):
            await world.found("a:b")
        with refused("InvalidParameterException", "Only one of logStreamNames and logStreamNamePrefix"):
            await world.found(streams=["b"], prefix="a")
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await world.found(streams=["none"])

    run(test)


def test_filtering_the_newest_first() -> None:
    async def test(world: World) -> None:
        await world.clock.advance(3600 * 24 * 365)
        since = NOW_MS + 365 * DAY_MS
        for number in range(5):
            world.append(f"{number}", at_ms=since + number)
        with refused("InvalidParameterException", "2024"):
            await world.found(newest_first=True)
        wanted = Filter(start_ms=since + 1, newest_first=True)
        page = await world.logs.filter_log_events(KEY, wanted, limit=3)
        assert [event.message for event in page.events] == ["4", "3", "2"]
        # The token has the direction, whatever the call says.
        rest = await world.logs.filter_log_events(KEY, Filter(start_ms=since + 1), next_token=page.next_token)
        assert [event.message for event in rest.events] == ["1"]
        assert rest.next_token is None

    run(test)


def test_filter_tokens() -> None:
    async def test(world: World) -> None:
        world.append(*(f"{number}" for number in range(10)))
        page = await world.logs.filter_log_events(KEY, Filter(), limit=4)
        assert [event.message for event in page.events] == ["0", "1", "2", "3"]
        page2 = await world.logs.filter_log_events(KEY, Filter(), next_token=page.next_token, limit=100)
        assert [event.message for event in page2.events] == ["4", "5", "6", "7", "8", "9"]
        assert page2.next_token is None
        for wanted, token in (
            (Filter(pattern="x"), page.next_token),
            (Filter(), "x"),
            (Filter(), "é"),
            (Filter(), "e30"),
        ):
            with refused("InvalidParameterException", "The specified nextToken is invalid."):
                await world.logs.filter_log_events(KEY, wanted, next_token=token)
        await world.clock.advance(24 * 3600)
        with refused("InvalidParameterException", "The specified nextToken is invalid."):
            await world.logs.filter_log_events(KEY, Filter(), next_token=page.next_token)

    run(test)


def test_a_long_search_comes_in_pages_that_may_be_empty() -> None:
    async def test(world: World) -> None:
        world.append(*["no"] * 150_000, "yes")
        page = await world.logs.filter_log_events(KEY, Filter(pattern="yes"))
        assert page.events == []
        assert page.next_token is not None
        page = await world.logs.filter_log_events(KEY, Filter(pattern="yes"), next_token=page.next_token)
        assert [event.message for event in page.events] == ["yes"]
        assert page.next_token is None

    run(test)


def test_a_message_as_large_as_a_scan_is_found() -> None:
    async def test(world: World) -> None:
        world.append("x" * 1_000_000, "needle" + "x" * 1_000_000)
        assert len(await world.found("needle")) == 1

    run(test)


# Streams.


def test_paging_through_streams() -> None:
    async def test(world: World) -> None:
        for number in range(7):
            world.append("x", stream=f"s{number}", at_ms=NOW_MS + (number * 3) % 7)

        async def names(limit: int = 3, **asked: object) -> list[str]:
            found: list[str] = []
            token, first = None, True
            while first or token is not None:
                page = await world.logs.log_streams(KEY, next_token=token, limit=limit, **asked)  # type: ignore[arg-type]
                found += [stream.name for stream in page.streams]
                token, first = page.next_token, False
            return found

        by_name = [f"s{number}" for number in range(7)]
        by_time = sorted(by_name, key=lambda name: int(name[1]) * 3 % 7)
        assert await names() == by_name
        assert await names(descending=True) == by_name[::-1]
        assert await names(prefix="s") == by_name
        assert await names(by_time=True) == by_time
        assert await names(by_time=True, descending=True) == by_time[::-1]
        with refused("InvalidParameterException", "LastEventTime"):
            await names(by_time=True, prefix="s")
        page = await world.logs.log_streams(KEY, limit=1)
        with refused("InvalidParameterException", "The specified nextToken is invalid."):
            await world.logs.log_streams(KEY, by_time=True, next_token=page.next_token)

    run(test)
