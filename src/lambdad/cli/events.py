"""`lambdad events`: asynchronous events that wait, run, are tried again, or have failed."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import click

from lambdad.cli import output
from lambdad.cli.client import ClientGroup, Connection, ask
from lambdad.cli.failures import CommandFailed
from lambdad.cli.output import Column

ROWS: Final = 100
ROWS_MAX: Final = 10_000
"""The most that the daemon lists."""

_NUMBERS: Final = ("Waiting", "Running", "Retrying", "Failed")
_UNITS_S: Final = (("d", 86_400), ("h", 3600), ("min", 60))
_ENOUGH_UNITS: Final = 2
"""Less than so many of a unit are told in the next smaller one."""


@click.group(
    name="events",
    cls=ClientGroup,
    invoke_without_command=True,
    short_help="List asynchronous events, send them again, or purge them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show how many asynchronous events wait, run, are tried again and have failed, by function.

    Deliveries to other targets stand under the ARN of the target. Into a pipe: a line for each, with the name, the four
    numbers, and the times when the oldest was accepted and when the next is tried (UTC), separated by tabs.
    """
    if ctx.invoked_subcommand is None:
        _show_functions(ctx.obj, as_json=as_json)


@command.command(name="list")
@click.argument("function", default="")
@click.option("--failed", is_flag=True, help="Those that have failed, the last first.")
@click.option("--limit", type=click.IntRange(1, ROWS_MAX), default=ROWS, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def list_command(connection: Connection, function: str, failed: bool, limit: int, as_json: bool) -> None:
    """List single events, the next due first."""
    listed = _read(connection, "events/list", function, dead="true" if failed else "false", limit=str(limit))
    events = listed["events"]
    if as_json:
        output.say_json([describe_event(event) for event in events])
    elif not events:
        output.say(f"no events{_of(function)} {_have_failed(failed)}", err=True)
    else:
        output.say_table(*_event_table(listed, connection, have_ended=failed))
        if len(events) == limit:
            output.say(f"there may be more than these {limit}: see --limit", err=True)


@command.command(name="outcome")
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def outcome_command(connection: Connection, request_id: str, as_json: bool) -> None:
    """Say how an invocation has ended, by its request id."""
    ended = _read(connection, "events/outcome", "", request_id=request_id)
    if as_json:
        output.say_json([describe_event(event) for event in ended["events"]])
    elif ended["events"]:
        output.say_table(*_event_table(ended, connection, have_ended=True))
    else:
        raise CommandFailed(f"no asynchronous invocation {request_id} has ended that is remembered")


@command.command(name="redrive")
@click.argument("function", default="")
@click.option("--id", "ids", type=click.IntRange(min=1), multiple=True, help="Only this event; may be repeated.")
@click.pass_obj
def redrive_command(connection: Connection, function: str, ids: tuple[int, ...]) -> None:
    """Send failed events again, as if they were new."""
    count = _change(connection, "events/redrive", function, ids=ids)
    if count:
        output.say(f"{_number(count, 'event')} sent again")
    else:
        output.say(f"no such events{_of(function)} have failed", err=True)


@command.command(name="purge")
@click.argument("function", default="")
@click.option("--failed", is_flag=True, help="Forget those that have failed, instead of those that wait.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge_command(connection: Connection, function: str, failed: bool, yes: bool) -> None:
    """Take events away for good, those that run excepted."""
    if yes or _agreed(connection, function, failed=failed):
        count = _change(connection, "events/purge", function, dead=failed)
        output.say(f"{_number(count, 'event')} purged")
    else:
        output.say(f"no events{_of(function)} {_have_failed(failed)}", err=True)


def _agreed(connection: Connection, function: str, *, failed: bool) -> bool:
    """True when the user agrees, False when there is nothing to agree to. Raises Abort, or CommandFailed."""
    lanes = _read(connection, "events", function)["functions"]
    count = sum(lane["dead"] if failed else lane["waiting"] + lane["retrying"] for lane in lanes)
    if count == 0:
        return False
    if not _can_answer():
        raise CommandFailed("purge asks first, and nobody can answer here; add --yes to go ahead")
    which = "failed" if failed else "waiting"
    click.confirm(f"Purge {_number(count, f'{which} event')}{_of(function)}?", abort=True)
    return True


def _can_answer() -> bool:
    return sys.stdin.isatty()


def _show_functions(connection: Connection, *, as_json: bool) -> None:
    found = _read(connection, "events", "")
    lanes = [lane for lane in map(describe_lane, found["functions"]) if any(lane[name] for name in _NUMBERS)]
    if as_json:
        output.say_json(lanes)
        return
    if not lanes:
        output.say("no events wait, run or have failed", err=True)
        return
    columns = (
        Column("function"),
        *(Column(name.lower(), is_number=True) for name in _NUMBERS),
        Column("oldest", _age(found["now_ms"]), is_number=True),
        Column("next attempt", _until(found["now_ms"]), is_number=True),
    )
    own = _own_functions(found, connection)
    rows = [
        (
            lane["Arn"].removeprefix(own),
            *(lane[name] for name in _NUMBERS),
            lane["OldestAccepted"] or "",
            lane["NextAttempt"] or "",
        )
        for lane in lanes
    ]
    output.say_table(columns, rows)


def describe_lane(lane: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a function or target, for programs. What was taken from disk and does not run yet waits."""
    return {
        "Arn": lane["lane"],
        "Waiting": lane["waiting"] + lane["leased"] - lane["running"],
        "Running": lane["running"],
        "Retrying": lane["retrying"],
        "Failed": lane["dead"],
        "OldestAccepted": _time(lane["oldest_accepted_ms"]),
        "NextAttempt": _time(lane["next_due_ms"]),
    }


def describe_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event for programs. `Outcome` is None while it is in the queue; `Source` is whose outcome a delivery tells."""
    has_ended = event["condition"] is not None
    return {
        "Id": event["id"],
        "Arn": event["lane"],
        "RequestId": event["request_id"],
        "Purpose": event["purpose"],
        "Source": event["source"] or None,
        "Attempts": event["invocations"] + event["backoffs"],
        "Accepted": _time(event["accepted_ms"]),
        "NextAttempt": None if has_ended else _time(event["due_ms"]),
        "Outcome": event["condition"],
        "Ended": _time(event["ended_ms"]),
        "LastError": event["error_message"] or None,
    }


def _event_table(
    listed: Mapping[str, Any], connection: Connection, *, have_ended: bool
) -> tuple[Sequence[Column], Sequence[Sequence[Any]]]:
    last = Column("outcome") if have_ended else Column("next attempt", _until(listed["now_ms"]), is_number=True)
    columns = (
        Column("id", is_number=True),
        Column("function"),
        Column("request id"),
        Column("attempts", is_number=True),
        Column("age", _age(listed["now_ms"]), is_number=True),
        last,
        Column("last error"),
    )
    own = _own_functions(listed, connection)
    rows = [
        (
            event["Id"],
            event["Arn"].removeprefix(own),
            event["RequestId"],
            event["Attempts"],
            event["Accepted"],
            event["Outcome"] or event["NextAttempt"],
            (event["LastError"] or "").partition("\n")[0],
        )
        for event in map(describe_event, listed["events"])
    ]
    return columns, rows


def _read(connection: Connection, page: str, function: str, **members: str) -> Any:
    query = urlencode({**_named(connection, function), **members})
    return ask(connection.endpoint_url, f"{page}?{query}")


def _change(connection: Connection, page: str, function: str, **members: Any) -> int:
    return int(ask(connection.endpoint_url, page, {**_named(connection, function), **members})["events"])


def _named(connection: Connection, function: str) -> dict[str, str]:
    return {"function": function, "account_id": connection.account_id, "region": connection.region}


def _own_functions(found: Mapping[str, Any], connection: Connection) -> str:
    """How the ARNs of functions begin that need no more than their name here."""
    return f"arn:aws:lambda:{connection.region}:{found['account_id']}:function:"


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _age(now_ms: int) -> Callable[[str], str]:
    return lambda text: _duration(now_ms / 1000 - datetime.datetime.fromisoformat(text).timestamp()) if text else ""


def _until(now_ms: int) -> Callable[[str], str]:
    def show(text: str) -> str:
        if not text:
            return ""
        seconds = datetime.datetime.fromisoformat(text).timestamp() - now_ms / 1000
        return f"in {_duration(seconds)}" if seconds > 0 else "now"

    return show


def _duration(seconds: float) -> str:
    """A time for people, in its largest unit that still says enough: `90 s`, `2 min`."""
    for unit, size_s in _UNITS_S:
        if seconds >= _ENOUGH_UNITS * size_s:
            return f"{int(seconds // size_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _of(function: str) -> str:
    return f" of {function}" if function else ""


def _have_failed(failed: bool) -> str:
    return "have failed" if failed else "wait"
