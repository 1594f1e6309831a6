"""What every LogStore does, whichever it is."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lambdad.adapters import sqlite_log_events, sqlite_log_units
from lambdad.adapters.memory_logs import MemoryLogStore
from lambdad.adapters.sqlite_log_blocks import WINDOW_MS, Span, decoded
from lambdad.adapters.sqlite_log_subscriptions import LOOK_BLOCKS
from lambdad.adapters.sqlite_logs import SqliteLogStore
from lambdad.adapters.sqlite_schema import NewerSchema
from lambdad.domain.errors import ServiceError, ValidationException
from lambdad.domain.log_subscriptions import SubscriptionFilter
from lambdad.domain.logs import DAY_MS, EventBatch, GroupKey, LogGroup, LogStream, Position, ServiceUnavailableException
from lambdad.ports.logs import EventRange, LogStore, Scan

KEY = GroupKey("111122223333", "us-east-1", "/aws/lambda/f")
OTHER = GroupKey("111122223333", "eu-west-1", "/aws/lambda/f")
ALL = EventRange(0, 2**62, None, True, 1000, 2**20)
Run = Callable[[Callable[[LogStore], Awaitable[None]]], None]


@pytest.fixture(params=["memory", "sqlite"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test's coroutine on a fresh store, which is closed after it."""

    def run_it(test: Callable[[LogStore], Awaitable[None]]) -> None:
        async def with_store() -> None:
            store: LogStore = MemoryLogStore() if request.param == "memory" else SqliteLogStore(tmp_path)
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(with_store())

    return run_it


def batch(stream: str, *events: tuple[int, str], key: GroupKey = KEY, ingested_ms: int = 5000) -> EventBatch:
    return EventBatch(key, stream, ingested_ms, events)


async def fill(store: LogStore, *batches: EventBatch) -> None:
    await store.append(batches, create=True)


async def scan(
    store: LogStore,
    events: EventRange = ALL,
    *,
    streams: Sequence[str] | None = None,
    prefix: str = "",
    matches: Callable[[str], bool] = lambda message: True,
    look: int = 1000,
) -> Scan:
    return await store.scan(KEY, events, streams=streams, prefix=prefix, matches=matches, look=look)


async def messages(store: LogStore, stream: str, events: EventRange = ALL) -> list[str]:
    return [event.message for event in await store.read(KEY, stream, events)]


def refused(code: str, text: str) -> pytest.RaisesExc[ServiceError]:
    return pytest.raises(ServiceError, check=lambda error: error.code == code and text in error.message)


def nothing(group: LogGroup) -> None:
    """A check that finds nothing wrong."""


def test_groups_are_made_found_changed_and_deleted(run: Run) -> None:
    async def test(store: LogStore) -> None:
        group = LogGroup(KEY, 1000, "INFREQUENT_ACCESS", None, True, {"team": "a"})
        await store.create_group(group)
        assert await store.group(KEY) == group
        assert await store.group(OTHER) is None
        with refused("ResourceAlreadyExistsException", "The specified log group already exists"):
            await store.create_group(group)
        await store.create_group(LogGroup(OTHER, 2000))

        changed = await store.update_group(KEY, lambda found: replace(found, retention_days=3, tags={"b": "é"}))
        assert changed == replace(group, retention_days=3, tags={"b": "é"})
        assert await store.group(KEY) == changed
        with pytest.raises(ValidationException):
            await store.update_group(KEY, _refuse)
        with pytest.raises(ValidationException):
            await store.delete_group(KEY, _refuse)
        assert await store.group(KEY) == changed

        await store.delete_group(KEY, nothing)
        assert await store.group(KEY) is None
        assert await store.group(OTHER) == LogGroup(OTHER, 2000)
        for call in (store.delete_group(KEY, nothing), store.update_group(KEY, lambda found: found)):
            with refused("ResourceNotFoundException", "The specified log group does not exist."):
                await call

    run(test)


def _refuse(group: LogGroup) -> LogGroup:
    raise ValidationException("no")


def test_groups_are_listed_by_name(run: Run) -> None:
    async def test(store: LogStore) -> None:
        for name in ("b", "B", "a/x", "a/y", "a-z", "ab"):
            await store.create_group(LogGroup(replace(KEY, name=name), 0))
        await store.create_group(LogGroup(replace(OTHER, name="a/other"), 0))
        await store.create_group(LogGroup(GroupKey("444455556666", "us-east-1", "a/other"), 0))

        async def names(after: str = "", prefix: str = "", substring: str = "", limit: int = 9) -> list[str]:
            found = await store.groups(
                KEY.account_id, KEY.region, after=after, prefix=prefix, substring=substring, limit=limit
            )
            return [group.key.name for group in found]

        assert await names() == ["B", "a-z", "a/x", "a/y", "ab", "b"]
        assert await names(prefix="a/") == ["a/x", "a/y"]
        assert await names(prefix="a", after="a/x") == ["a/y", "ab"]
        assert await names(substring="b") == ["ab", "b"]
        assert await names(substring="%") == []
        assert await names(limit=2) == ["B", "a-z"]

    run(test)


def test_streams_are_made_found_and_deleted(run: Run) -> None:
    async def test(store: LogStore) -> None:
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await store.create_stream(KEY, LogStream("s", 1))
        assert await store.stream(KEY, "s") is None
        await store.create_group(LogGroup(KEY, 0))
        await store.create_stream(KEY, LogStream("2024/01/01/[$LATEST]a", 1))
        with refused("ResourceAlreadyExistsException", "The specified log stream already exists"):
            await store.create_stream(KEY, LogStream("2024/01/01/[$LATEST]a", 2))
        assert await store.stream(KEY, "2024/01/01/[$LATEST]a") == LogStream("2024/01/01/[$LATEST]a", 1)
        await fill(store, batch("s", (1, "one"), (2, "two")), batch("t", (3, "three")))
        with pytest.raises(ValidationException):
            await store.delete_stream(KEY, "s", _refuse_stream)
        await store.delete_stream(KEY, "s", nothing)
        assert await store.stream(KEY, "s") is None
        assert [event.message for event in (await scan(store)).events] == ["three"]
        group = await store.group(KEY)
        assert group is not None
        assert group.stored_bytes == 5 + 26
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await store.delete_stream(KEY, "s", nothing)
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await store.delete_stream(OTHER, "s", nothing)

    run(test)


def _refuse_stream(group: LogGroup) -> None:
    raise ValidationException("no")


def test_streams_are_listed_by_name_and_by_time(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("a", (50, "x")), batch("B", (70, "x")), batch("ab", (60, "x")), batch("é", (60, "x")))
        await store.create_stream(KEY, LogStream("empty", 0))

        async def by_name(prefix: str = "", after: str = "", descending: bool = False, limit: int = 9) -> list[str]:
            found = await store.streams(KEY, prefix=prefix, after=after, descending=descending, limit=limit)
            return [stream.name for stream in found]

        assert await by_name() == ["B", "a", "ab", "empty", "é"]
        assert await by_name(descending=True) == ["é", "empty", "ab", "a", "B"]
        assert await by_name(prefix="a") == ["a", "ab"]
        assert await by_name(prefix="a", after="a") == ["ab"]
        assert await by_name(prefix="a", after="ab", descending=True) == ["a"]
        assert await by_name(after="empty", descending=True, limit=2) == ["ab", "a"]

        async def by_time(after: tuple[int, str] | None = None, descending: bool = False, limit: int = 9) -> list[str]:
            found = await store.streams_by_time(KEY, after=after, descending=descending, limit=limit)
            return [stream.name for stream in found]

        assert await by_time() == ["empty", "a", "ab", "é", "B"]
        assert await by_time(descending=True) == ["B", "é", "ab", "a", "empty"]
        assert await by_time(after=(60, "ab")) == ["é", "B"]
        assert await by_time(after=(60, "é"), descending=True, limit=2) == ["ab", "a"]
        for call in (
            store.streams(OTHER, prefix="", after="", descending=False, limit=1),
            store.streams_by_time(OTHER, after=None, descending=False, limit=1),
        ):
            with refused("ResourceNotFoundException", "The specified log group does not exist."):
                await call

    run(test)


def test_appending_keeps_times_and_bytes(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", (200, "two"), (100, "é"), ingested_ms=250), batch("empty", ingested_ms=251))
        await fill(store, batch("s", (300, "three"), (150, ""), ingested_ms=350))
        assert await store.stream(KEY, "s") == LogStream("s", 250, 100, 300, 350)
        assert await store.stream(KEY, "empty") == LogStream("empty", 251)
        group = await store.group(KEY)
        assert group == LogGroup(KEY, 250, stored_bytes=3 + 2 + 5 + 0 + 4 * 26)
        events = await store.read(KEY, "s", ALL)
        assert [(e.position.timestamp_ms, e.message, e.ingested_ms, e.stream) for e in events] == [
            (100, "é", 250, "s"),
            (150, "", 350, "s"),
            (200, "two", 250, "s"),
            (300, "three", 350, "s"),
        ]
        assert len({event.event_id for event in events}) == 4

    run(test)


def test_without_create_nothing_is_made(run: Run) -> None:
    async def test(store: LogStore) -> None:
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await store.append([batch("s", (1, "x"))], create=False)
        await store.create_group(LogGroup(KEY, 0))
        await store.create_stream(KEY, LogStream("s", 0))
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await store.append([batch("s", (1, "x")), batch("t", (1, "x"))], create=False)
        assert await messages(store, "s") == []
        await store.append([batch("s", (1, "x"))], create=False)
        assert await messages(store, "s") == ["x"]

    run(test)


def test_texts_are_kept_as_they_are(run: Run) -> None:
    texts = ["nul \0 inside", "line\n", "\r\n", "é 漢 😀", " ", "x" * 1_000_000]

    async def test(store: LogStore) -> None:
        await fill(store, batch("s", *((1, text) for text in texts)))
        assert await messages(store, "s", replace(ALL, bytes=2**30)) == texts

    run(test)


def test_events_of_one_millisecond_are_in_the_order_of_arrival(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", (7, "a"), (7, "b")), batch("t", (7, "c")), batch("s", (7, "d"), (6, "e")))
        assert await messages(store, "s") == ["e", "a", "b", "d"]
        assert [event.message for event in (await scan(store)).events] == ["e", "a", "b", "c", "d"]

    run(test)


def test_reading_a_stream_page_by_page_in_both_directions(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("other", *((time, "no") for time in range(20))))
        await fill(store, batch("s", *((time // 3, f"{time}") for time in range(10))))
        page = await store.read(KEY, "s", replace(ALL, limit=4))
        assert [event.message for event in page] == ["0", "1", "2", "3"]
        page = await store.read(KEY, "s", replace(ALL, limit=4, beyond=page[-1].position))
        assert [event.message for event in page] == ["4", "5", "6", "7"]
        back = replace(ALL, forward=False, limit=4)
        assert await messages(store, "s", back) == ["6", "7", "8", "9"]
        assert await messages(store, "s", replace(back, beyond=page[0].position)) == ["0", "1", "2", "3"]
        assert await messages(store, "s", replace(back, beyond=page[0].position.next)) == ["1", "2", "3", "4"]
        assert await messages(store, "s", replace(ALL, start_ms=1, end_ms=2)) == ["3", "4", "5"]
        assert await messages(store, "s", replace(back, start_ms=1, end_ms=2, limit=2)) == ["4", "5"]
        assert await messages(store, "s", replace(ALL, start_ms=2, beyond=Position(0, 0))) == ["6", "7", "8", "9"]
        assert await messages(store, "s", replace(back, end_ms=1, beyond=Position(99, 0))) == ["0", "1", "2"]
        assert await messages(store, "s", replace(ALL, bytes=3 * 27)) == ["0", "1", "2"]
        assert await messages(store, "s", replace(ALL, bytes=1)) == ["0"]
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await store.read(KEY, "none", ALL)
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await store.read(OTHER, "s", ALL)

    run(test)


@pytest.mark.parametrize("chosen", [None, ["s1", "s3"]])
@pytest.mark.parametrize("forward", [True, False])
def test_scanning_a_group_page_by_page(run: Run, chosen: list[str] | None, forward: bool) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, *(batch(f"s{time % 4}", (time // 2, f"{time}")) for time in range(40)))
        expected = [f"{time}" for time in range(10, 40) if chosen is None or f"s{time % 4}" in chosen]
        expected = [text for text in expected if text.endswith(("1", "2", "3"))]
        found: list[str] = []
        position, pages = None, 0
        while pages == 0 or position is not None:
            events = EventRange(5, 50, position, forward, 3, 10_000)
            part = await scan(store, events, streams=chosen, matches=lambda text: text[-1] in "123", look=4)
            assert len(part.events) <= 3
            found += [event.message for event in part.events]
            position = part.reached
            pages += 1
        assert found == (expected if forward else expected[::-1])
        assert pages >= 30 // 4 // (1 if chosen is None else 2)

    run(test)


def test_a_scan_is_bounded_by_what_it_looks_at(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", *((1, "x" * 74) for _ in range(10))))
        first = await scan(store, replace(ALL, bytes=250), matches=lambda text: False)
        assert first.events == []
        assert first.reached is not None
        rest = await scan(store, replace(ALL, beyond=first.reached))
        assert len(rest.events) == 8
        assert rest.reached is None
        one = await scan(store, replace(ALL, bytes=1))
        assert len(one.events) == 1

    run(test)


def test_scanning_chosen_streams(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, *(batch(f"day{number % 2}/{number}", (number, f"{number}")) for number in range(300)))
        assert [e.message for e in (await scan(store, prefix="day1/29")).events] == [
            "29",
            "291",
            "293",
            "295",
            "297",
            "299",
        ]
        # More streams than are merged.
        page = await scan(store, prefix="day1")
        assert [e.message for e in page.events] == [f"{number}" for number in range(1, 300, 2)]
        assert (await scan(store, prefix="none")).events == []
        named = await scan(store, streams=["day0/4", "day1/3"])
        assert [(e.stream, e.message) for e in named.events] == [("day1/3", "3"), ("day0/4", "4")]
        with refused("ResourceNotFoundException", "The specified log stream does not exist."):
            await scan(store, streams=["day0/4", "none"])
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await store.scan(OTHER, ALL, streams=None, prefix="", matches=lambda text: True, look=1)

    run(test)


def test_accounts_and_regions_are_apart(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", (1, "here")), batch("s", (1, "there"), key=OTHER))
        assert await messages(store, "s") == ["here"]
        assert [event.message for event in (await scan(store)).events] == ["here"]
        await store.delete_group(OTHER, nothing)
        await store.expire(0, 100)
        assert await messages(store, "s") == ["here"]

    run(test)


def test_what_expired_is_removed_in_small_steps(run: Run) -> None:
    now_ms = 10 * DAY_MS

    async def test(store: LogStore) -> None:
        old = [(now_ms - 3 * DAY_MS + number, f"old{number}") for number in range(-10, 0)]
        kept = [(now_ms - 3 * DAY_MS, "edge"), (now_ms, "é")]
        await fill(store, batch("s", *old, *kept), batch("gone", *old), batch("s", *old, key=OTHER))
        assert await store.expire(now_ms, 100) == 0
        await store.update_group(KEY, lambda group: replace(group, retention_days=3))
        assert await store.expire(now_ms, 8) == 8
        assert await store.expire(now_ms, 8) == 8
        assert await store.expire(now_ms, 8) == 4
        assert await store.expire(now_ms, 8) == 0
        assert await messages(store, "s") == ["edge", "é"]
        group = await store.group(KEY)
        assert group is not None
        assert group.stored_bytes == 4 + 2 + 2 * 26
        assert await store.stream(KEY, "s") == LogStream("s", 5000, now_ms - 3 * DAY_MS, now_ms, 5000)
        empty = await store.stream(KEY, "gone")
        assert empty is not None
        assert empty.first_event_ms is None
        other = await store.group(OTHER)
        assert other is not None
        assert other.stored_bytes > 0

    run(test)


def test_a_group_made_again_has_none_of_its_former_events(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", (1, "before")))
        before = (await store.read(KEY, "s", ALL))[0]
        await store.delete_group(KEY, nothing)
        await fill(store, batch("s", (1, "after")))
        assert await messages(store, "s") == ["after"]
        assert (await store.read(KEY, "s", ALL))[0].event_id != before.event_id
        while await store.expire(0, 1):
            pass
        assert await messages(store, "s") == ["after"]
        group = await store.group(KEY)
        assert group is not None
        assert group.stored_bytes == 5 + 26

    run(test)


def test_calls_at_the_same_time_lose_nothing(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await store.create_group(LogGroup(KEY, 0))
        await asyncio.gather(
            *(fill(store, batch(f"s{number % 3}", (1, f"{number}"))) for number in range(60)),
            *(
                store.update_group(KEY, lambda g, n=number: replace(g, tags={**g.tags, f"{n}": ""}))
                for number in range(20)
            ),
            *(scan(store) for _ in range(20)),
        )
        assert sorted(int(event.message) for event in (await scan(store)).events) == list(range(60))
        group = await store.group(KEY)
        assert group is not None
        assert len(group.tags) == 20

    run(test)


Place = tuple[int, str, str]


async def pages(read: Callable[[Position | None], Awaitable[tuple[list[Place], Position | None]]]) -> list[Place]:
    """What the pages of a read have together."""
    found, beyond = await read(None)
    while beyond is not None:
        more, beyond = await read(beyond)
        found += more
    return found


async def read_through(store: LogStore, stream: str, wanted: EventRange) -> list[Place]:
    async def read(beyond: Position | None) -> tuple[list[Place], Position | None]:
        page = await store.read(KEY, stream, replace(wanted, beyond=beyond))
        found = [(event.position.timestamp_ms, event.stream, event.message) for event in page]
        if not page:
            return [], None
        return (found, page[-1].position) if wanted.forward else (found[::-1], page[0].position)

    return await pages(read)


async def scan_through(
    store: LogStore, wanted: EventRange, streams: Sequence[str] | None, prefix: str, look: int
) -> list[Place]:
    async def read(beyond: Position | None) -> tuple[list[Place], Position | None]:
        page = await store.scan(
            KEY,
            replace(wanted, beyond=beyond),
            streams=streams,
            prefix=prefix,
            matches=lambda message: not message.endswith("7"),
            look=look,
        )
        return [(event.position.timestamp_ms, event.stream, event.message) for event in page.events], page.reached

    return await pages(read)


def any_batches(choose: random.Random) -> list[EventBatch]:
    """Batches whose times overlap, some of one millisecond, some out of order, some long."""
    batches = []
    for number in range(choose.randrange(1, 5)):
        begin = choose.randrange(5 * WINDOW_MS)
        reach = choose.choice([1, 5, 300, 3 * WINDOW_MS])
        times = [begin + choose.randrange(reach) for _ in range(choose.choice([1, 3, 40, 1500]))]
        if choose.random() < 0.7:
            times.sort()
        texts = [f"{choose.randrange(10**6)} {'é' * choose.randrange(3)} {index}" for index in range(len(times))]
        batches.append(batch(f"{choose.choice('ab')}{choose.randrange(3)}", *zip(times, texts, strict=True)))
        batches[-1] = replace(batches[-1], ingested_ms=number)
    return batches


@pytest.mark.parametrize("seed", range(6))
def test_overlapping_batches_are_read_in_order_whatever_the_page(run: Run, seed: int) -> None:
    """The events that were put, sorted by time and arrival, are what every way to read them gives."""

    async def test(store: LogStore) -> None:
        choose = random.Random(seed)
        arrived: list[Place] = []
        for _ in range(4):
            batches = any_batches(choose)
            await fill(store, *batches)
            arrived += [(time, each.stream, text) for each in batches for time, text in each.events]
        removed_before = choose.choice([0, choose.randrange(5 * WINDOW_MS)])
        if removed_before:
            await store.update_group(KEY, lambda group: replace(group, retention_days=1))
            assert await store.expire(DAY_MS + removed_before, len(arrived)) == sum(
                time < removed_before for time, _, _ in arrived
            )
        kept = sorted((place for place in arrived if place[0] >= removed_before), key=lambda place: place[0])
        for _ in range(6):
            start_ms = choose.choice([0, choose.randrange(5 * WINDOW_MS)])
            end_ms = choose.choice([2**62, start_ms + choose.randrange(3 * WINDOW_MS)])
            forward = choose.random() < 0.5
            wanted = EventRange(start_ms, end_ms, None, forward, choose.choice([7, 900, 9000]), 2**20)
            within = [place for place in kept if start_ms <= place[0] < end_ms]
            if not forward:
                within.reverse()
            for stream in {stream for _, stream, _ in arrived}:
                assert await read_through(store, stream, wanted) == [p for p in within if p[1] == stream]
            matching = [place for place in within if not place[2].endswith("7")]
            look = choose.choice([11, 800])
            assert await scan_through(store, wanted, None, "", look) == matching
            assert await scan_through(store, wanted, None, "a", look) == [p for p in matching if p[1][0] == "a"]
            one = arrived[0][1]
            assert await scan_through(store, wanted, [one], "", look) == [p for p in matching if p[1] == one]
        group = await store.group(KEY)
        assert group is not None
        assert group.stored_bytes == sum(len(text.encode()) + 26 for _, _, text in kept)

    run(test)


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_step_of_removal_ends_within_a_batch(run: Run, limit: int) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", *((time, f"{time}") for time in range(10))), batch("t", (20, "t")))
        before = await store.read(KEY, "s", ALL)
        await store.update_group(KEY, lambda group: replace(group, retention_days=1))
        assert await store.expire(DAY_MS + 8, limit) == min(limit, 8)
        after = await store.read(KEY, "s", ALL)
        # Those that remain are what they were, with their ids.
        assert after == before[min(limit, 8) :]
        stream = await store.stream(KEY, "s")
        assert stream is not None
        assert stream.first_event_ms == after[0].position.timestamp_ms

    run(test)


# What only the store on disk does.


def sqlite_test(directory: Path, test: Callable[[SqliteLogStore], Awaitable[None]]) -> None:
    async def with_store() -> None:
        store = SqliteLogStore(directory)
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(with_store())


def test_everything_is_there_after_a_restart_and_ids_go_on(tmp_path: Path) -> None:
    async def write(store: SqliteLogStore) -> None:
        await fill(store, batch("s", (1, "one"), (2, "two")))
        await store.update_group(KEY, lambda group: replace(group, retention_days=1, tags={"a": "b"}))

    async def read(store: SqliteLogStore) -> None:
        assert await store.group(KEY) == LogGroup(KEY, 5000, "STANDARD", 1, False, {"a": "b"}, 6 + 52)
        first = await store.read(KEY, "s", ALL)
        assert [event.message for event in first] == ["one", "two"]
        while await store.expire(10 * DAY_MS, 10):
            pass
        await fill(store, batch("s", (1, "three")))
        (third,) = await store.read(KEY, "s", ALL)
        assert third.position.sequence > first[-1].position.sequence

    sqlite_test(tmp_path, write)
    sqlite_test(tmp_path, read)


def test_an_append_is_committed_to_the_file_when_it_returns(tmp_path: Path) -> None:
    async def test(store: SqliteLogStore) -> None:
        await fill(store, batch("s", (1, "one")))
        with sqlite3.connect(tmp_path / "logs.db") as reader:
            ((content,),) = reader.execute("SELECT content FROM log_blocks").fetchall()
            assert decoded(content) == ([1], ["one"])
            assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL

    sqlite_test(tmp_path, test)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    sqlite_test(tmp_path, lambda store: fill(store, batch("s", (1, "one"))))
    newer = len(sqlite_log_units.MIGRATIONS) + 1
    with sqlite3.connect(tmp_path / "logs.db") as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(NewerSchema, match=f"logs.db has schema version {newer}"):
        SqliteLogStore(tmp_path)


def test_disk_space_is_given_back(tmp_path: Path) -> None:
    async def test(store: SqliteLogStore) -> None:
        await fill(store, batch("s", *((1, "x" * 1000) for _ in range(3000))))
        await store.delete_group(KEY, nothing)
        while await store.expire(0, 1000):
            pass
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        assert store._writer.execute("SELECT count(*) FROM log_blocks").fetchone() == (0,)
        assert store._writer.execute("SELECT count(*) FROM deleted_log_streams").fetchone() == (0,)
        assert pages < 100

    sqlite_test(tmp_path, test)


def test_a_database_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async def test(store: SqliteLogStore) -> None:
        await fill(store, batch("s", (1, "one")))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ServiceUnavailableException, match="full"):
            await fill(store, batch("s", (2, "x" * 100_000)))
        assert await messages(store, "s") == ["one"]
        store._writer.execute("PRAGMA max_page_count = 1000000")
        await fill(store, batch("s", (2, "two")))
        assert await messages(store, "s") == ["one", "two"]

    sqlite_test(tmp_path, test)


@pytest.mark.parametrize("column", ["stream_id", "group_id"])
@pytest.mark.parametrize("forward", [True, False])
def test_pages_are_found_by_an_index_and_never_sorted(tmp_path: Path, column: str, forward: bool) -> None:
    async def test(store: SqliteLogStore) -> None:
        connection = sqlite3.connect(tmp_path / "logs.db")
        try:
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            events = replace(ALL, beyond=Position(5, 5), forward=forward)
            list(sqlite_log_events._blocks(connection, column, 1, Span.of(events)))
            connection.set_trace_callback(None)
            plans = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statements[0]}")]
        finally:
            connection.close()
        edge = "first" if forward else "last"
        assert f"log_blocks_of_{column.removesuffix('_id')}_by_{edge}" in plans[0]
        assert f"{edge}_ms>? AND {edge}_ms<?" in plans[0]
        assert not any("TEMP B-TREE" in plan for plan in plans)

    sqlite_test(tmp_path, test)


def test_what_arrives_together_is_one_row_for_each_stream(tmp_path: Path) -> None:
    async def test(store: SqliteLogStore) -> None:
        printed = [(WINDOW_MS + number, f"line {number}") for number in range(100)]
        await fill(store, *(batch(f"s{number}", *printed) for number in range(5)))
        assert store._writer.execute("SELECT events, first_ms FROM log_blocks").fetchall() == [(100, WINDOW_MS)] * 5

    sqlite_test(tmp_path, test)


# Subscription filters.


def subscription(name: str, pattern: str = "", *, key: GroupKey = KEY, created_ms: int = 7) -> SubscriptionFilter:
    arn = f"arn:aws:lambda:{key.region}:{key.account_id}:function:f"
    return SubscriptionFilter(key, name, pattern, arn, created_ms, "Random")


async def arrived(store: LogStore, since: int = 1, most_bytes: int = 2**20) -> list[tuple[str, list[str], list[str]]]:
    found = await store.arrivals(since, most_bytes)
    return [
        (part.stream, [each.name for each in part.filters], [event.message for event in part.events])
        for part in found.events
    ]


def test_filters_are_put_listed_replaced_and_deleted(run: Run) -> None:
    async def test(store: LogStore) -> None:
        async def names(prefix: str = "", after: str = "", limit: int = 9) -> list[str]:
            found = await store.subscription_filters(KEY, prefix=prefix, after=after, limit=limit)
            return [each.name for each in found]

        with refused("ResourceNotFoundException", "log group does not exist"):
            await store.put_subscription_filter(subscription("a"), 2)
        with refused("ResourceNotFoundException", "log group does not exist"):
            await names()
        with refused("ResourceNotFoundException", "log group does not exist"):
            await store.delete_subscription_filter(KEY, "a")
        await store.create_group(LogGroup(KEY, 1))
        assert await store.subscribed_groups() == []
        for name in ("ab", "b"):
            await store.put_subscription_filter(subscription(name), 2)
        with refused("LimitExceededException", "Resource limit exceeded."):
            await store.put_subscription_filter(subscription("c"), 2)
        await store.put_subscription_filter(subscription("b", "ERROR", created_ms=8), 2)
        assert await names() == ["ab", "b"]
        assert await names(prefix="a") == await names(limit=1) == ["ab"]
        assert await names(after="ab") == ["b"]
        (found,) = await store.subscription_filters(KEY, prefix="b", after="", limit=1)
        assert found == subscription("b", "ERROR", created_ms=8)
        assert await store.subscribed_groups() == [KEY]
        await store.delete_subscription_filter(KEY, "ab")
        with refused("ResourceNotFoundException", "The specified subscription filter does not exist."):
            await store.delete_subscription_filter(KEY, "ab")
        assert await names() == ["b"]

    run(test)


def test_filters_get_what_is_appended_after_them(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await fill(store, batch("s", (1, "before")))
        await store.put_subscription_filter(subscription("a"), 2)
        await fill(store, batch("s", (2, "one")), batch("t", (3, "two")), batch("s", (1, "x"), key=OTHER))
        await store.put_subscription_filter(subscription("b"), 2)
        await store.put_subscription_filter(subscription("a", "new"), 2)
        await fill(store, batch("s", (2, "three")))
        assert await arrived(store) == [("s", ["a"], ["one"]), ("t", ["a"], ["two"]), ("s", ["a", "b"], ["three"])]
        found = await store.arrivals(1, 2**20)
        assert found.complete
        assert {each.pattern for each in found.events[0].filters} == {"new"}
        read = await store.read(KEY, "s", ALL)
        assert [event.position for event in read[1:]] == [part.events[0].position for part in found.events[::2]]
        await fill(store, batch("s", (9, "four")))
        assert await arrived(store, found.next) == [("s", ["a", "b"], ["four"])]
        await store.delete_subscription_filter(KEY, "a")
        await store.delete_subscription_filter(KEY, "b")
        assert await arrived(store) == []

    run(test)


def test_events_of_a_stream_come_together_and_in_small_steps(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await store.create_group(LogGroup(KEY, 1))
        await store.put_subscription_filter(subscription("a"), 2)
        for number in range(6):
            await fill(store, batch("st"[number % 2], (number, f"{number}" * 100)))
        assert [len(messages) for _, _, messages in await arrived(store)] == [3, 3]
        since, steps = 1, []
        while True:
            found = await store.arrivals(since, 200)
            steps.append([event.message[0] for part in found.events for event in part.events])
            since = found.next
            if found.complete:
                break
        assert steps == [["0", "1"], ["2", "3"], ["4", "5"]]

    run(test)


def test_filters_are_gone_with_their_group(run: Run) -> None:
    async def test(store: LogStore) -> None:
        await store.create_group(LogGroup(KEY, 1))
        await store.put_subscription_filter(subscription("a"), 2)
        await fill(store, batch("s", (1, "one")))
        await store.delete_group(KEY, nothing)
        await fill(store, batch("s", (2, "two")))
        assert await store.subscribed_groups() == []
        assert await arrived(store) == []
        assert await store.subscription_filters(KEY, prefix="", after="", limit=9) == []

    run(test)


def test_what_was_delivered_is_remembered(run: Run) -> None:
    async def test(store: LogStore) -> None:
        assert await store.delivered() == 1
        await store.keep_delivered(17)
        assert await store.delivered() == 17

    run(test)


def test_looking_for_arrivals_is_bounded(tmp_path: Path) -> None:
    async def test(store: SqliteLogStore) -> None:
        await store.create_group(LogGroup(KEY, 1))
        await store.put_subscription_filter(subscription("a"), 2)
        await fill(store, *(batch(f"s{number}", (1, "x"), key=OTHER) for number in range(LOOK_BLOCKS)))
        await fill(store, batch("s", (1, "one")))
        found = await store.arrivals(1, 2**20)
        assert (found.events, found.complete) == ([], False)
        assert await arrived(store, found.next) == [("s", ["a"], ["one"])]

    sqlite_test(tmp_path, test)


def test_filters_survive_a_restart(tmp_path: Path) -> None:
    async def write(store: SqliteLogStore) -> None:
        await store.create_group(LogGroup(KEY, 1))
        await store.put_subscription_filter(subscription("a", "ERROR"), 2)
        await fill(store, batch("s", (1, "one")))
        await store.keep_delivered(1)

    async def read(store: SqliteLogStore) -> None:
        assert await store.subscription_filters(KEY, prefix="", after="", limit=9) == [subscription("a", "ERROR")]
        assert await arrived(store, await store.delivered()) == [("s", ["a"], ["one"])]

    sqlite_test(tmp_path, write)
    sqlite_test(tmp_path, read)


def test_a_database_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    sqlite_test(tmp_path, lambda store: fill(store, batch("s", (1, "one"))))
    with sqlite3.connect(tmp_path / "logs.db") as connection:
        connection.execute("DROP TABLE log_subscription_filters")
        connection.execute("DROP TABLE log_delivered")
        connection.execute("PRAGMA user_version = 1")

    async def test(store: SqliteLogStore) -> None:
        await store.put_subscription_filter(subscription("a"), 2)
        await fill(store, batch("s", (1, "two")))
        assert await arrived(store) == [("s", ["a"], ["two"])]

    sqlite_test(tmp_path, test)
