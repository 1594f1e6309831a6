"""`lambdad demo`: a function of its own, from nothing to its log, against a running daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection
from lambdad.cli.failures import CommandFailed
from lambdad.domain.runtimes import Language

NAME: Final = "lambdad-demo"
SOURCE: Final = Path(__file__).with_name("demo_function")
HANDLER: Final = "lambda_function.lambda_handler"
DESCRIPTION: Final = "Made by `lambdad demo`"


@dataclass(frozen=True, slots=True)
class Invocation:
    """An answer of the function, and how long it took from here."""

    answer: Mapping[str, Any]
    duration_ms: float
    log: str


@click.command(name="demo", cls=ClientCommand, short_help="See a small function work, from start to log.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: function and invocations.")
@click.pass_obj
def command(connection: Connection, as_json: bool) -> None:
    """Create a small Python function, invoke it cold and warm, and show what came of it."""
    from lambdad.cli import deployment
    from lambdad.cli.package import Directory

    client = connection.client("lambda")
    current = deployment.current_configuration(client, NAME)
    runtime = deployment.guess_runtime(connection, Language.PYTHON).value
    settings = {"Runtime": runtime, "Handler": HANDLER, "Description": DESCRIPTION}
    package = Directory(SOURCE, lambda _: None).package()
    put = deployment.create if current is None else deployment.update
    began = time.perf_counter()
    done = put(client, NAME, package, settings, publish=False)
    deployed_ms = (time.perf_counter() - began) * 1000
    invocations = [_invoke(client, event) for event in ({}, {"name": "you"})]
    if as_json:
        shown = [{"Payload": each.answer, "DurationMs": round(each.duration_ms, 3)} for each in invocations]
        output.say_json({"action": done.action, "function": done.configuration, "invocations": shown})
        return
    output.say(f"{output.styled(f'{done.action.capitalize()} {NAME}', fg='green', bold=True)} in {deployed_ms:.0f} ms")
    output.say(f"  {runtime}, {HANDLER}, the source is {SOURCE / 'lambda_function.py'}")
    for invocation in invocations:
        _show(invocation)
    _show_next(connection)


def _invoke(client: Any, event: Mapping[str, Any]) -> Invocation:
    """Invoke the function. Raises CommandFailed with its error when it fails, and botocore's ClientError."""
    from lambdad.cli.invoke import error_lines, log_tail

    began = time.perf_counter()
    answer = client.invoke(FunctionName=NAME, Payload=json.dumps(event), LogType="Tail")
    payload = json.loads(answer["Payload"].read())
    duration_ms = (time.perf_counter() - began) * 1000
    if "FunctionError" in answer:
        raise CommandFailed("\n".join(error_lines(payload)))
    return Invocation(payload, duration_ms, log_tail(answer) or "")


def _show(invocation: Invocation) -> None:
    kind = "Cold" if invocation.answer["cold_start"] else "Warm"
    duration = output.styled(f"{invocation.duration_ms:.1f} ms", bold=True)
    output.say(f"\n{kind} invocation, from request to answer: {duration}")
    output.say(output.json_text(invocation.answer, indent=2))
    for line in invocation.log.splitlines():
        output.say(output.styled(f"  {line.rstrip()}", dim=True))


def _show_next(connection: Connection) -> None:
    output.say("\nNow with the AWS CLI:")
    variables = {"AWS_ENDPOINT_URL": connection.endpoint_url}
    if not connection.has_configuration:
        variables |= {
            "AWS_ACCESS_KEY_ID": "lambdad",
            "AWS_SECRET_ACCESS_KEY": "lambdad",
            "AWS_DEFAULT_REGION": connection.region,
        }
    output.say("  export " + " ".join(f"{name}={value}" for name, value in variables.items()))
    for line in next_commands():
        output.say(f"  {line}")


def next_commands() -> list[str]:
    """Commands to try next; they are the same for both major versions of the AWS CLI."""
    return [
        f"aws lambda invoke --function-name {NAME} /dev/stdout",
        f"aws logs filter-log-events --log-group-name /aws/lambda/{NAME} --query 'events[].message' --output text",
        f"aws lambda delete-function --function-name {NAME}",
    ]
