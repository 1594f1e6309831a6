"""`lambdad logs`: what a function printed, from its log group."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection, code_of

POLL_S: Final = 0.5
LATE_MS: Final = 10_000
"""How much later than its timestamp says an event may arrive and still be shown while following."""
SKEW_MS: Final = 15 * 60 * 1000
"""How far this machine's clock may be from the daemon's: what signatures of AWS's requests allow."""

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PLATFORM: Final = re.compile(
    r"(INIT_START|START|END|REPORT|INIT_REPORT|EXTENSION|TELEMETRY)\b|\{\"time\":\"[^\"]*\",\"type\":\"platform\."
)
_FAILED: Final = re.compile(
    r"\[(ERROR|CRITICAL|FATAL)\]|\t(ERROR|FATAL)\t|\"level\": ?\"(ERROR|CRITICAL|FATAL)\"|Task timed out after|"
    r"\tStatus: (error|timeout|failure)|\"status\":\"(error|timeout|failure)\"|^Traceback \(most recent call last\)"
)
_WARNED: Final = re.compile(r"\[WARN(ING)?\]|\tWARN\t|\"level\": ?\"WARN(ING)?\"")


def moment_ms(text: str) -> int:
    """A moment in milliseconds since 1970: how long ago (`30s`, `10m`, `2h`, `1d`, `1w`), or a time in ISO 8601.

    Raises BadParameter.
    """
    if found := re.fullmatch(r"(\d+)([smhdw])", text):
        return int((time.time() - int(found[1]) * _UNITS_S[found[2]]) * 1000)
    try:
        return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither like 10m nor a time like 2026-11-21T03:54:24Z") from None


@click.command(name="logs", cls=ClientCommand, short_help="Print what a function logged.")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--since",
    type=moment_ms,
    metavar="TIME",
    default="10m",
    show_default=True,
    help="Like 30s, 10m, 2h, 1d, or a time.",
)
@click.option(
    "--filter", "pattern", default="", help="A CloudWatch Logs filter pattern, such as ERROR or '{ $.x = 1 }'."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; with --follow, one a line.")
@click.pass_obj
def command(connection: Connection, name: str, follow: bool, since: int, pattern: str, as_json: bool) -> None:
    """Print the log of a function, oldest first. Times are UTC."""
    configuration = connection.client("lambda").get_function_configuration(FunctionName=name)
    group = configuration["LoggingConfig"]["LogGroup"]
    reader = LogReader(connection.client("logs"), group, since, pattern)
    if follow:
        _follow(reader, as_json=as_json)
        return
    events = reader.read()
    if as_json:
        output.say_json(list(events))
        return
    is_empty = True
    for event in events:
        output.say(line_of(event))
        is_empty = False
    if is_empty:
        output.say(f"{group} has no such events since then; look further back with --since 1d", err=True)


def _follow(reader: LogReader, *, as_json: bool) -> None:
    while True:
        for event in reader.read():
            output.say(output.json_text(event) if as_json else line_of(event))
        time.sleep(POLL_S)


class LogReader:
    """Reads a log group; each `read` gives what has come since the last one, each event once.

    Events arrive a little after their timestamps, and not in the order of these. So each read begins a while before
    the daemon's present, as far as it is known, and leaves out what was given already. The daemon's clock is known
    by the time at which it took in the newest event, and by how long ago that was seen; this machine's own clock is
    trusted to SKEW_MS.
    """

    def __init__(
        self,
        client: Any,
        group: str,
        since_ms: int,
        pattern: str = "",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._client = client
        self._request = {"logGroupName": group}
        if pattern:
            self._request["filterPattern"] = pattern
        self._since_ms = since_ms
        self._now_ms = now_ms
        self._clock_lead_ms = -SKEW_MS
        self._given: dict[str, int] = {}

    def read(self) -> Iterator[dict[str, Any]]:
        """The new events, oldest first. A group that is not there yet has none. Raises botocore's ClientError."""
        from botocore.exceptions import ClientError

        began_ms = self._now_ms()
        try:
            for page in self._client.get_paginator("filter_log_events").paginate(
                **self._request, startTime=self._since_ms
            ):
                for event in page["events"]:
                    if event["eventId"] not in self._given:
                        self._take(event)
                        yield event
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
        self._advance(began_ms)

    def _take(self, event: Mapping[str, Any]) -> None:
        self._given[event["eventId"]] = event["timestamp"]
        self._clock_lead_ms = max(self._clock_lead_ms, event["ingestionTime"] - self._now_ms())

    def _advance(self, began_ms: int) -> None:
        self._since_ms = max(self._since_ms, began_ms + self._clock_lead_ms - LATE_MS)
        self._given = {event: at_ms for event, at_ms in self._given.items() if at_ms >= self._since_ms}


def line_of(event: Mapping[str, Any]) -> str:
    """An event as a line: its time, and its message, in colours where they are wanted."""
    moment = datetime.datetime.fromtimestamp(event["timestamp"] / 1000, datetime.UTC)
    at = f"{moment:%Y-%m-%dT%H:%M:%S}.{event['timestamp'] % 1000:03d}Z"
    message = event["message"].rstrip("\n")
    return f"{output.styled(at, dim=True)}  {output.styled(message, **style_of(message))}"


def style_of(message: str) -> dict[str, Any]:
    """How a message looks on a terminal: errors, warnings and the platform's own lines stand out."""
    if _FAILED.search(message):
        return {"fg": "red"}
    if _WARNED.search(message):
        return {"fg": "yellow"}
    if _PLATFORM.match(message):
        return {"fg": "cyan"}
    return {}
