"""The life of an environment: what is in the table happens, everything else is refused."""

from __future__ import annotations

from itertools import product

import pytest

from lambdad.domain.errors import IllegalTransition
from lambdad.domain.lifecycle import TRANSITIONS, Event, State, after

ILLEGAL = [pair for pair in product(State, Event) if pair not in TRANSITIONS]


@pytest.mark.parametrize(("state", "event"), sorted(TRANSITIONS))
def test_what_is_in_the_table_happens(state: State, event: Event) -> None:
    assert after(state, event) is TRANSITIONS[state, event]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_everything_else_is_refused(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"no transition from {state} on {event}"):
        after(state, event)


def test_nothing_comes_after_death() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is State.DEAD]


def test_every_state_but_the_first_is_reached_and_every_one_can_end() -> None:
    assert set(State) - set(TRANSITIONS.values()) == {State.STARTING}
    alive = set(State) - {State.DEAD}
    assert {state for state, event in TRANSITIONS if event is Event.EXIT} == alive
    assert {state for state, event in TRANSITIONS if event is Event.STOP} == alive - {State.STOPPING}


def test_an_ordinary_life() -> None:
    state = State.STARTING
    for event in (Event.NEXT, Event.ASSIGN, Event.RESPONSE, Event.NEXT, Event.ASSIGN, Event.ERROR, Event.NEXT):
        state = after(state, event)
    assert state is State.IDLE
    assert after(after(state, Event.STOP), Event.EXIT) is State.DEAD
