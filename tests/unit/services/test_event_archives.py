"""Archives and replays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lambdad.domain.dispatches import Dispatch
from lambdad.domain.event_archives import REPLAYS_KEPT_MS, REPLAYS_RUNNING_MAX, ArchiveKey, ArchiveSize, Replay
from lambdad.services.event_replays import STEP_EVENTS, STEP_S
from unit.services.event_worlds import ACCOUNT, BUS, NOW_MS, OTHER, REGION, World, payloads, refused, scenario

KEY = ArchiveKey(ACCOUNT, REGION, "a")
DAY_S = 24 * 3600
WINDOW = {"from_ms": NOW_MS, "until_ms": NOW_MS + 3_600_000}


async def filled(world: World, count: int, **options: Any) -> None:
    """An archive with events, which are numbered; the rule `r` has had them too, and the queue is empty."""
    await world.archives.create_archive(KEY, BUS, **options)
    await world.rule()
    for begin in range(0, count, 10):
        await world.put(*({"Detail": json.dumps({"n": n})} for n in range(begin, min(begin + 10, count))))
    world.queue.take()


def numbers(world: World) -> list[int]:
    return [event["detail"]["n"] for event in payloads(world.queue.take())]


def replay(world: World) -> Replay:
    return world.replays.replay(ACCOUNT, REGION, "r")


@scenario
async def test_an_archive_keeps_what_matches(world: World) -> None:
    await world.archives.create_archive(KEY, BUS, pattern=json.dumps({"detail": {"n": [1]}}))
    results = await world.put({"Detail": '{"n": 1}'}, {"Detail": '{"n": 2}'})
    archive, size = await world.archives.archive(KEY)
    (stored,) = await world.store.archived(archive.id, after=None, from_ms=0, until_ms=2**50, limit=10)
    event = json.loads(stored.document)
    assert (event["id"], event["detail"]) == (results[0].event_id, {"n": 1})
    assert size == ArchiveSize(1, len(stored.document))
    await world.archives.update_archive(KEY, pattern="", retention_days=None, description=None)
    await world.put({"Detail": '{"n": 2}'}, {"Source": "other"})
    assert (await world.archives.archive(KEY))[1].events == 3


@scenario
async def test_what_is_no_archive(world: World) -> None:
    create, update = world.archives.create_archive, world.archives.update_archive
    assert await refused(create(KEY, OTHER)) == ("ResourceNotFoundException", "Event bus orders does not exist.")
    assert (await refused(create(KEY, BUS, pattern="{")))[0] == "InvalidEventPatternException"
    await create(KEY, BUS)
    assert await refused(create(KEY, BUS)) == ("ResourceAlreadyExistsException", "Archive a already exists.")
    assert (await refused(update(KEY, pattern="{", retention_days=1, description="")))[0] == (
        "InvalidEventPatternException"
    )
    await world.archives.delete_archive(KEY)
    unknown = "ResourceNotFoundException", "Archive a does not exist."
    assert await refused(world.archives.delete_archive(KEY)) == unknown
    assert await refused(world.archives.archive(KEY)) == unknown
    assert await refused(update(KEY, pattern=None, retention_days=1, description=None)) == unknown


@scenario
async def test_an_archive_is_there_after_a_restart(world: World) -> None:
    await filled(world, 3, retention_days=2, description="d")
    world = await world.restarted()
    await world.put()
    ((archive,), size) = (world.archives.archives(ACCOUNT, REGION), (await world.archives.archive(KEY))[1])
    assert (archive.retention_days, archive.description, size.events) == (2, "d", 4)


@scenario
async def test_events_are_kept_for_so_many_days(world: World) -> None:
    await filled(world, 2, retention_days=1)
    await world.clock.advance(DAY_S)
    await world.put({"Time": None, "Detail": '{"n": 2}'})
    await world.archives.expire()
    assert (await world.archives.archive(KEY))[1].events == 3
    await world.clock.advance(1)
    await world.archives.expire()
    assert (await world.archives.archive(KEY))[1].events == 1
    await world.archives.update_archive(KEY, pattern=None, retention_days=0, description=None)
    await world.clock.advance(1000 * DAY_S)
    await world.archives.expire()
    assert (await world.archives.archive(KEY))[1].events == 1


@scenario
async def test_a_deleted_archive_leaves_nothing_to_its_successor(world: World) -> None:
    await filled(world, 2)
    old = world.archives.archives(ACCOUNT, REGION)[0].id
    await world.archives.delete_archive(KEY)
    await world.archives.create_archive(KEY, BUS)
    assert (await world.archives.archive(KEY))[1] == ArchiveSize(0, 0)
    await world.archives.expire()
    assert await world.store.expire(old, 2**50) == 0


@scenario
async def test_a_replay_sends_the_events_of_a_window_again(world: World) -> None:
    await filled(world, 250)
    started = await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    assert (started.state, started.started_ms) == ("STARTING", NOW_MS)
    await world.clock.advance(0)
    assert replay(world).state == "RUNNING"
    assert len(world.queue.accepted) == STEP_EVENTS
    await world.clock.advance(3 * STEP_S)
    assert all(event["replay-name"] == "r" for event in payloads(world.queue.accepted))
    assert numbers(world) == list(range(250))
    over = replay(world)
    assert over.state == "COMPLETED"
    assert over.ended_ms is not None
    assert NOW_MS < over.ended_ms <= NOW_MS + 300
    assert over.place is not None
    assert over.place.time_ms == NOW_MS
    assert (await world.archives.archive(KEY))[1].events == 250


@scenario
async def test_large_events_are_sent_in_smaller_steps(world: World) -> None:
    await filled(world, 0)
    for n in range(4):
        await world.put({"Detail": json.dumps({"n": n, "text": "x" * 400_000})})
    world.queue.take()
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(0)
    assert numbers(world) == [0, 1]
    await world.clock.advance(1)
    assert numbers(world) == [2, 3]


@scenario
async def test_only_events_of_the_window_are_sent(world: World) -> None:
    await filled(world, 1)
    await world.clock.advance(60)
    await world.put({"Detail": '{"n": 1}'})
    await world.clock.advance(60)
    await world.put({"Detail": '{"n": 2}'})
    world.queue.take()
    await world.replays.start_replay(KEY, "r", BUS, from_ms=NOW_MS + 60_000, until_ms=NOW_MS + 120_000)
    await world.clock.advance(1)
    assert (numbers(world), replay(world).state) == ([1], "COMPLETED")


@scenario
async def test_a_replay_may_be_for_certain_rules(world: World) -> None:
    await filled(world, 2)
    wanted = await world.rule("wanted")
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW, filter_arns=[wanted])
    await world.clock.advance(1)
    assert {each.source for each in world.queue.accepted} == {wanted}
    assert numbers(world) == [0, 1]


@scenario
async def test_a_replay_goes_on_after_a_restart(world: World) -> None:
    await filled(world, 3 * STEP_EVENTS)
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(STEP_S)
    assert numbers(world) == list(range(2 * STEP_EVENTS))
    world = await world.restarted()
    await world.clock.advance(1)
    assert numbers(world) == list(range(2 * STEP_EVENTS, 3 * STEP_EVENTS))
    assert replay(world).state == "COMPLETED"
    world = await world.restarted()
    await world.clock.advance(1)
    assert numbers(world) == []


@scenario
async def test_a_step_that_was_not_accepted_is_repeated(world: World) -> None:
    await filled(world, 2)
    world.queue.failing = True
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(0.5)
    assert (replay(world).state, replay(world).place) == ("STARTING", None)
    world.queue.failing = False
    await world.clock.advance(2)
    assert (numbers(world), replay(world).state) == ([0, 1], "COMPLETED")


@scenario
async def test_a_replay_can_be_cancelled_until_it_is_over(world: World) -> None:
    await filled(world, 3 * STEP_EVENTS)
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(0)
    assert (await world.replays.cancel_replay(ACCOUNT, REGION, "r")).state == "CANCELLING"
    await world.clock.advance(1)
    assert replay(world).state == "CANCELLED"
    assert replay(world).ended_ms is not None
    assert numbers(world) == list(range(STEP_EVENTS))
    assert await refused(world.replays.cancel_replay(ACCOUNT, REGION, "r")) == (
        "IllegalStatusException",
        "Replay r is not in a valid state for this operation.",
    )
    assert await refused(world.replays.cancel_replay(ACCOUNT, REGION, "none")) == (
        "ResourceNotFoundException",
        "Replay none does not exist.",
    )


@scenario
async def test_a_replay_that_is_cancelled_during_a_step_ends_with_it(world: World) -> None:
    await filled(world, 3 * STEP_EVENTS)
    accept = world.queue.accept

    async def accept_and_cancel(dispatches: Sequence[Dispatch], **options: Any) -> None:
        await accept(dispatches, **options)
        await world.replays.cancel_replay(ACCOUNT, REGION, "r")

    world.queue.accept = accept_and_cancel  # type: ignore[method-assign]
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(1)
    assert (replay(world).state, numbers(world)) == ("CANCELLED", list(range(STEP_EVENTS)))


@scenario
async def test_a_replay_fails_when_its_archive_or_bus_is_gone(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    second = ArchiveKey(ACCOUNT, REGION, "b")
    await filled(world, 3 * STEP_EVENTS)
    await world.archives.create_archive(second, OTHER)
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.replays.start_replay(second, "s", OTHER, **WINDOW)
    await world.buses.delete_event_bus(OTHER)
    await world.archives.delete_archive(KEY)
    await world.archives.create_archive(KEY, BUS)
    await world.clock.advance(1)
    assert (replay(world).state, replay(world).reason) == ("FAILED", "Archive a does not exist.")
    other = world.replays.replay(ACCOUNT, REGION, "s")
    assert (other.state, other.reason) == ("FAILED", "Event bus orders does not exist.")


@scenario
async def test_what_is_no_replay(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    await filled(world, 1)
    start = world.replays.start_replay
    none = ArchiveKey(ACCOUNT, REGION, "none")
    assert await refused(start(none, "r", BUS, **WINDOW)) == (
        "ValidationException",
        "Parameter EventSourceArn is not valid. Reason: Archive none does not exist.",
    )
    assert await refused(start(KEY, "r", OTHER, **WINDOW)) == (
        "ValidationException",
        "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted.",
    )
    assert await refused(start(KEY, "r", BUS, from_ms=5, until_ms=5)) == (
        "ValidationException",
        "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime.",
    )
    await start(KEY, "r", BUS, **WINDOW)
    assert await refused(start(KEY, "r", BUS, **WINDOW)) == (
        "ResourceAlreadyExistsException",
        "Replay r already exists.",
    )


@scenario
async def test_so_many_replays_run_at_once(world: World) -> None:
    await filled(world, 1)
    for n in range(REPLAYS_RUNNING_MAX):
        await world.replays.start_replay(KEY, f"r{n}", BUS, **WINDOW)
    assert (await refused(world.replays.start_replay(KEY, "more", BUS, **WINDOW)))[0] == "LimitExceededException"
    await world.clock.advance(1)
    await world.replays.start_replay(KEY, "more", BUS, **WINDOW)


@scenario
async def test_replays_that_have_ended_long_ago_are_forgotten(world: World) -> None:
    await filled(world, 1)
    await world.replays.start_replay(KEY, "r", BUS, **WINDOW)
    await world.clock.advance(1)
    await world.archives.expire()
    assert [each.name for each in world.replays.replays(ACCOUNT, REGION)] == ["r"]
    await world.clock.advance(REPLAYS_KEPT_MS / 1000 + 1)
    await world.archives.expire()
    assert world.replays.replays(ACCOUNT, REGION) == []
