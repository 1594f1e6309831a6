"""The life of an execution environment, as one table: `(state, event) -> state`. Anything else is illegal.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html and, for what a runtime may call when,
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

                     next                     assign                 response | error
    STARTING ─────────────────────▶ IDLE ────────────────▶ INVOKING ────────────────▶ ANSWERED
      │   │ init_error              ▲  ▲                                               │    │
      │   ▼                         │  └──────────────────── next ─────────────────────┘    │
      │ INIT_FAILED                 │ extensions_next                                       │
      └────────── next_ahead ───▶ SETTLING ◀──────────────── next_ahead ────────────────────┘

                                                  any ── stop ──▶ STOPPING ── exit ──▶ DEAD

SETTLING: the runtime has asked for the next event, and extensions are not yet done with the last one.
"""

from __future__ import annotations

from enum import StrEnum

from lambdad.domain.errors import IllegalTransition


class State(StrEnum):
    """What an environment is doing."""

    STARTING = "starting"
    INIT_FAILED = "init_failed"
    IDLE = "idle"
    INVOKING = "invoking"
    STREAMING = "streaming"
    ANSWERED = "answered"
    SETTLING = "settling"
    STOPPING = "stopping"
    DEAD = "dead"


class Event(StrEnum):
    """What happens to an environment: calls of its runtime, decisions of the pool, and its process's exit.

    `NEXT_AHEAD` is a `next` while extensions are busy, `EXTENSIONS_NEXT` that of the last of these.
    """

    NEXT = "next"
    NEXT_AHEAD = "next_ahead"
    EXTENSIONS_NEXT = "extensions_next"
    RESPONSE = "response"
    RESPONSE_BEGINS = "response_begins"
    ERROR = "error"
    INIT_ERROR = "init_error"
    ASSIGN = "assign"
    STOP = "stop"
    EXIT = "exit"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.NEXT): State.IDLE,
    (State.STARTING, Event.INIT_ERROR): State.INIT_FAILED,
    # A runtime that lost its connection asks again.
    (State.IDLE, Event.NEXT): State.IDLE,
    (State.IDLE, Event.ASSIGN): State.INVOKING,
    (State.INVOKING, Event.RESPONSE): State.ANSWERED,
    (State.INVOKING, Event.RESPONSE_BEGINS): State.STREAMING,
    (State.INVOKING, Event.ERROR): State.ANSWERED,
    (State.STREAMING, Event.RESPONSE): State.ANSWERED,
    (State.STREAMING, Event.ERROR): State.ANSWERED,
    (State.ANSWERED, Event.NEXT): State.IDLE,
    (State.STARTING, Event.NEXT_AHEAD): State.SETTLING,
    (State.ANSWERED, Event.NEXT_AHEAD): State.SETTLING,
    (State.SETTLING, Event.NEXT_AHEAD): State.SETTLING,
    (State.SETTLING, Event.EXTENSIONS_NEXT): State.IDLE,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.INIT_FAILED, Event.STOP): State.STOPPING,
    (State.IDLE, Event.STOP): State.STOPPING,
    (State.INVOKING, Event.STOP): State.STOPPING,
    (State.STREAMING, Event.STOP): State.STOPPING,
    (State.ANSWERED, Event.STOP): State.STOPPING,
    (State.SETTLING, Event.STOP): State.STOPPING,
    (State.STARTING, Event.EXIT): State.DEAD,
    (State.INIT_FAILED, Event.EXIT): State.DEAD,
    (State.IDLE, Event.EXIT): State.DEAD,
    (State.INVOKING, Event.EXIT): State.DEAD,
    (State.STREAMING, Event.EXIT): State.DEAD,
    (State.ANSWERED, Event.EXIT): State.DEAD,
    (State.SETTLING, Event.EXIT): State.DEAD,
    (State.STOPPING, Event.EXIT): State.DEAD,
}


def after(state: State, event: Event) -> State:
    """The state that follows. Raises IllegalTransition when the table has none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("environment", state, event) from None
