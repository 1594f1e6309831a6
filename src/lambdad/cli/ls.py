"""`lambdad ls`: the functions that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import click

from lambdad.cli import output
from lambdad.cli.client import ClientCommand, Connection
from lambdad.cli.output import Column

_COLUMNS: Final = (
    Column("name"),
    Column("runtime"),
    Column("handler"),
    Column("memory", lambda memory_mb: f"{memory_mb} MB", is_number=True),
    Column("timeout", lambda timeout_s: f"{timeout_s} s", is_number=True),
    Column("size", output.size_text, is_number=True),
    Column("versions", is_number=True),
    Column("modified", lambda moment: moment[:19].replace("T", " ")),
)


@click.command(name="ls", cls=ClientCommand, short_help="List functions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def command(connection: Connection, as_json: bool) -> None:
    """List the functions of the region.

    Into a pipe: a line for each, with name, runtime, handler, memory (MB), timeout (s), size (bytes), published
    versions and time of the last change (UTC), separated by tabs.
    """
    functions = functions_of(connection.client("lambda"))
    if as_json:
        output.say_json(functions)
    elif functions:
        output.say_table(_COLUMNS, [_row(function) for function in functions])
    else:
        output.say(f"no functions in {connection.region}; create one with `lambdad deploy DIR`", err=True)


def functions_of(client: Any) -> list[dict[str, Any]]:
    """The functions by name: AWS's FunctionConfiguration of each, and `VersionCount`, its published versions."""
    pages = client.get_paginator("list_functions").paginate(FunctionVersion="ALL")
    every = [function for page in pages for function in page["Functions"]]
    latest = [function for function in every if function["Version"] == "$LATEST"]
    counts = Counter(function["FunctionName"] for function in every if function["Version"] != "$LATEST")
    return [
        {**function, "VersionCount": counts[function["FunctionName"]]}
        for function in sorted(latest, key=lambda function: str(function["FunctionName"]))
    ]


def _row(function: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        function["FunctionName"],
        function.get("Runtime", ""),
        function.get("Handler", ""),
        function["MemorySize"],
        function["Timeout"],
        function["CodeSize"],
        function["VersionCount"],
        function["LastModified"],
    )
