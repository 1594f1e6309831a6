"""`lambdad invoke`: call a function and print what it answers."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection


@click.command(name="invoke", cls=ClientCommand, short_help="Call a function and print its answer.")
@click.argument("name")
@click.argument("event", required=False)
@click.option("--event-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the event here.")
@click.option("--qualifier", help="A version or an alias.")
@click.option("--log/--no-log", "with_log", default=False, help="Print the end of the log too, on standard error.")
@click.option("--async", "later", is_flag=True, help="Only queue the event, and print its request id.")
@click.option("--dry-run", is_flag=True, help="Only check that the function could be invoked.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: status, version, payload, log.")
@click.pass_obj
def command(
    connection: Connection,
    name: str,
    event: str | None,
    event_file: Path | None,
    qualifier: str | None,
    with_log: bool,
    later: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Invoke a function with an EVENT, which is JSON, or - to read it from standard input. Default: {}.

    The answer is printed as it came, and on a terminal in a form that is easy to read. When the function fails, the
    error is on standard error and the exit status is 1.
    """
    if later and (dry_run or with_log):
        raise click.UsageError("--async goes neither with --dry-run nor with --log.")
    payload = read_event(event, event_file)
    request: dict[str, Any] = {"FunctionName": name, "Payload": payload}
    if qualifier:
        request["Qualifier"] = qualifier
    if later:
        request["InvocationType"] = "Event"
    elif dry_run:
        request["InvocationType"] = "DryRun"
    elif with_log:
        request["LogType"] = "Tail"
    answer = connection.client("lambda").invoke(**request)
    answered = answer["Payload"].read()
    log = log_tail(answer)
    if as_json:
        output.say_json(document(answer, answered, log))
    elif later:
        output.say(answer["ResponseMetadata"]["RequestId"])
    elif dry_run:
        output.say(f"{name} can be invoked")
    else:
        _show(answer, answered, log)
    if "FunctionError" in answer:
        click.get_current_context().exit(1)


def read_event(event: str | None, event_file: Path | None) -> bytes:
    """The event's bytes. Raises UsageError when it is given twice, OSError."""
    if event is not None and event_file is not None:
        raise click.UsageError("Give either EVENT or --event-file.")
    if event_file is not None:
        return event_file.read_bytes()
    if event == "-":
        return sys.stdin.buffer.read()
    return b"{}" if event is None else event.encode()


def log_tail(answer: Mapping[str, Any]) -> str | None:
    """The end of the log that came with an Invoke answer, if it was asked for."""
    if "LogResult" not in answer:
        return None
    return base64.b64decode(answer["LogResult"]).decode("utf-8", "replace")


def document(answer: Mapping[str, Any], payload: bytes, log: str | None) -> dict[str, Any]:
    """The answer as one document: the members of InvokeResponse, with the payload and the log as what they mean."""
    shown: dict[str, Any] = {
        "StatusCode": answer["StatusCode"],
        "RequestId": answer["ResponseMetadata"].get("RequestId"),
    }
    shown |= {member: answer[member] for member in ("ExecutedVersion", "FunctionError") if member in answer}
    if payload:
        shown["Payload"] = _parsed(payload)
    if log is not None:
        shown["LogResult"] = log
    return shown


def _show(answer: Mapping[str, Any], payload: bytes, log: str | None) -> None:
    has_failed = "FunctionError" in answer
    if not output.is_terminal():
        click.echo(payload, nl=not payload.endswith(b"\n"))
    elif not has_failed:
        output.say(pretty(payload))
    if has_failed:
        for line in error_lines(_parsed(payload)):
            output.say(output.styled(line, err=True, fg="red"), err=True)
    if log is not None:
        output.say(output.styled(log.rstrip("\n"), err=True, dim=True), err=True)


def pretty(payload: bytes) -> str:
    """JSON laid out for reading; anything else as it is."""
    try:
        return output.json_text(json.loads(payload), indent=2)
    except ValueError:
        return payload.decode("utf-8", "replace")


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")


def error_lines(error: Any) -> list[str]:
    """A function's error as its language would print it: type and message, then where it came from.

    Python's runtime gives `stackTrace`, Node.js's gives `trace`; a timeout or a crash has neither.
    """
    if not isinstance(error, dict):
        return [str(error)]
    kind, message = error.get("errorType"), error.get("errorMessage")
    if kind is None and message is None:
        return [output.json_text(error)]
    first = ": ".join(str(part) for part in (kind, message) if part)
    trace = error.get("stackTrace") or error.get("trace") or []
    lines = [line for entry in trace for line in str(entry).rstrip("\n").split("\n")]
    if lines and lines[0] in (first, message):  # Node.js repeats the message above its stack
        lines = lines[1:]
    return [first, *lines]
